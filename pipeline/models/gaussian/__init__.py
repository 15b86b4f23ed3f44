"""The exact denoiser of a Gaussian mixture."""
