"""Pictures of what was found in videos of any length."""
