"""Handles the secret verbs, and the credential socket, on which units get secrets."""
