"""Dry run: what a recipe would do, and what it costs."""
