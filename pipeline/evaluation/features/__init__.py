"""Networks that read images: classifier and feature extractors."""
