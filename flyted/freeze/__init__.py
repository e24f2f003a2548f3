"""Freezes the processes of an idle app, and thaws them when somebody connects to its socket.

``main.py`` is the program of units/flyted-freeze@.service. It has no other modules, and imports as few as it can: one
runs for each frozen app.
"""
