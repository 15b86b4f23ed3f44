"""Data preparation stages: shards, latents and text embeddings."""
