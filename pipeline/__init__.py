"""The stages in order, decode -> extract -> train -> evaluate -> localize -> report, and the commands."""
