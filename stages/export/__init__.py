"""Export of students to stock diffusers pipelines, with a parity check."""
