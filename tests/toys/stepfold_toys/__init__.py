"""A third-party package: one file for each kind of extension of Stepfold."""
