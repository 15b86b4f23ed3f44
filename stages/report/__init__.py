"""The HTML report of one run and of two."""
