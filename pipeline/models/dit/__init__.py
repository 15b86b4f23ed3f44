"""The DiT family and its stock pipeline."""
