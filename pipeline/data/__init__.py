"""Data sets: sources, shards, latents and target records."""

import os

os.environ["WDS_SECURE"] = "1"  # webdataset reads it on import: no pickles, no shell pipes
