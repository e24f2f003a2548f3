"""Decides what HAProxy serves: writes its configuration and commands, and parses its answers.

HAProxy, not a proxy of our own: it does TLS, HTTP/2, draining and counting, and can be controlled at run time without
reloads. Each replica is a dynamic server that ``use-server`` selects by a name in a map. The files that hold the same
state are written first, so a restarted ingress serves the same. What would change this decision: logic that is needed
in the path of a request.
"""
