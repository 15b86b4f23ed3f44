"""What all stock diffusers networks and pipelines share."""
