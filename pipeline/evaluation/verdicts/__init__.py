"""Pass/fail checks of reports and of the quality gate."""
