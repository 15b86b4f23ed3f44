"""The quality gate between a round's training and its promotion."""
