"""Feature networks: the data set's classifier and pretrained extractors."""
