"""Stages that provide the teacher and its components."""
