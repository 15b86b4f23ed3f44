"""Evaluation stages: draw samples, extract features, compare students, write the reports."""
