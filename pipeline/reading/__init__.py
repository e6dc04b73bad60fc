"""From what a network says of windows of ten seconds to the events of a video of any length."""
