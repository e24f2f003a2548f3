"""The one place that holds flyted's version, and the version of what its processes say to each other."""

VERSION = "0.1.0"
PROTOCOL = 1
"""Raised when the control socket's verbs change incompatibly; client and daemon must agree."""
