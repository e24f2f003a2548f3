"""Images of apps: found, built in units of their own, and deleted when nothing needs them."""
