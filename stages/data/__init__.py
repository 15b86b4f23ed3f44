"""Stages that prepare the data: shards, latents and embeddings."""
