"""Evaluation of students: metrics, verdicts, figures and reports."""
