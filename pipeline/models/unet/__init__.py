"""U-Nets, and the stock pipelines around them."""
