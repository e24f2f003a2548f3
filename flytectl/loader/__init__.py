"""Runs, in the user's own Python, the part of ``flytectl serve`` that imports the file.

``python /usr/lib/flyted/flytectl/loader FILE …`` imports the user's file with the real Flyte SDK and writes one
JSON document about the apps in it. It runs as the user, never as root, and of flyted's code imports only its own
folder, under the name ``flyted_loader``, so that no module of the user's is hidden.
"""
