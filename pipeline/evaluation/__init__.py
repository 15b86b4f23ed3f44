"""How good a student is, in numbers and pictures."""
