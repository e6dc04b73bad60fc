"""Training runs: a data set, a task and a config in, a run folder out."""
