"""Handles the verbs on apps: deploy, start, stop, delete, status and data."""
