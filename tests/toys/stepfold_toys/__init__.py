"""A package of another author: one file for each thing that can be added to Stepfold."""
