"""MLflow: store, runs, content and UI links."""
