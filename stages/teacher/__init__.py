"""Teacher stages: train or adopt components and teacher, and check them."""
