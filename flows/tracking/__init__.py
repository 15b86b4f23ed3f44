"""Tracking of rounds, and the outbox of updates that could not be delivered."""
