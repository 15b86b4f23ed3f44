"""Stages that measure the students and write the report."""
