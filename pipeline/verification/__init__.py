"""Verification of run directories from their files alone, and removal of damaged artifacts."""
