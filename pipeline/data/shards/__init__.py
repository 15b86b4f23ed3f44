"""Data shards: webdataset tars with an index, for random access."""
