"""Handles the secret verbs, and the credential socket, on which units get secrets.

systemd connects to the credential socket in the unit's own process, before that drops its privileges. If the daemon
dies while it answers, the credential is empty, and systemd does not report it: so ``launch`` checks length and
digest.
"""
