"""One round of training."""
