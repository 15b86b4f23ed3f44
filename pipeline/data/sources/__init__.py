"""Data sources of recipes."""
