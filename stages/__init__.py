"""Stages of a run: each reads artifacts, writes one artifact and is safe to repeat."""
