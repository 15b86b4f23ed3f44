"""One file per way to distil."""
