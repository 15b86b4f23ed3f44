"""Experiment tracking of runs: rounds, outbox and links."""
