"""The answers of the daemon's verbs: a class for each kind, which daemon and clients share."""
