"""Prefect flows and the command line."""

from flows.isolation import prefer_own_packages

prefer_own_packages()
