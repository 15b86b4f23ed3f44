"""Model families and denoisers."""
