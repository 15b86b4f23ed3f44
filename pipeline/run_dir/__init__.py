"""The run directory: recipe, events, progress and status."""
