"""Export to stock diffusers pipelines, with a parity check."""
