"""Shards: written, verified, indexed, read."""
