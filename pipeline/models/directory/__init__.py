"""Reading stock diffusers pipeline directories."""
