"""Stock diffusers pipelines around the network: one file for each kind of them."""
