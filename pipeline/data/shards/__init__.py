"""Data shards: webdataset tars, written and read by position."""
