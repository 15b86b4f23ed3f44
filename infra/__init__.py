"""Adapters to external systems: Ray, DeepSpeed, trackers, the operating system."""
