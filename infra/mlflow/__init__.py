"""MLflow: store, runs, content and pages."""
