"""Pages for browsers, and the login that guards them."""
