"""The HTML report of one run, and the comparison of two."""
