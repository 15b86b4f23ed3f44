"""Base classes of stock diffusers networks and pipelines."""
