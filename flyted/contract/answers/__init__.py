"""The answers of the daemon's verbs, as values: one class for each kind, which daemon and clients share."""
