"""The Gaussian family: an exact teacher for tests."""
