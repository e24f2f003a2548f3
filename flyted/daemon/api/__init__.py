"""Serves the control and the api socket: identifies the caller, checks its rights, and runs verbs."""
