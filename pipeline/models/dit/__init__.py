"""Diffusion transformers, and their stock pipeline."""
