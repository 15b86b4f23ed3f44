"""Sampling from bundles: solvers, conditions, editing and inversion."""
