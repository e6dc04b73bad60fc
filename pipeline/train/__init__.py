"""Runs: a data set, a task and settings in, a run folder out; one run, or several to be compared."""
