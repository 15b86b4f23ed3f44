"""Experiment trackers, one file or package per kind."""
