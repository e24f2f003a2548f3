"""Secrets: the verbs that change them, and the credential socket, on which units get them."""
