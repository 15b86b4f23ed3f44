"""Metrics of features and images, as functions of arrays."""
