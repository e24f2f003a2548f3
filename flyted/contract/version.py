"""Defines flyted's version, and the version of the protocol between its processes."""

VERSION = "0.1.0"
PROTOCOL = 1
"""The protocol's version, increased when the control socket's verbs change incompatibly.

Client and daemon must have the same.
"""
