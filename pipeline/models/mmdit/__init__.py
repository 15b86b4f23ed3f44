"""The MMDiT family and its stock pipelines: Stable Diffusion 3 and Flux."""
