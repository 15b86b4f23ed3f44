"""Read and validate diffusers pipeline directories."""
