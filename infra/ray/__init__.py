"""Ray: cluster, actors and training workers."""
