"""Dry run: the stages of a recipe, their state and their cost."""
