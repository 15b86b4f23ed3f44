"""Training rounds: plans, batches, engines, checkpoints and the training loop."""
