"""Diffusion mathematics: pure functions on tensors."""
