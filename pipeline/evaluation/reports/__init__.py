"""Evaluation reports: documents and Markdown."""
