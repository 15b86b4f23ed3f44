"""Where it runs: one file per outside system."""
