"""Whether what a run directory holds can be trusted: read-only, and from its files alone."""
