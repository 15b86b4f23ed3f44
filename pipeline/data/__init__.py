"""Data sets: sources, shards, latents and target records."""
