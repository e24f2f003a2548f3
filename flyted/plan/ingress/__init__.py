"""Decides what HAProxy serves: writes its configuration and commands, and parses its answers."""
