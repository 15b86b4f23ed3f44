"""Multimodal transformers, and the stock pipelines around them."""
