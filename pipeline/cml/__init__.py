"""Cross-modality localization: the task, its metrics and its part of the report."""
