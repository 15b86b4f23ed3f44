"""Prefect: servers, deployments, tasks, artifacts and notifications."""
