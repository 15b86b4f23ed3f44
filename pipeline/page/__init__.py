"""The page of a run: one file that a person who did not run it can judge it by."""
