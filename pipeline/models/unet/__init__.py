"""The U-Net family and its stock pipelines: Stable Diffusion, SDXL and inpainting."""
