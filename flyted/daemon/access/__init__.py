"""Issues and revokes tokens, updates HAProxy's table of them, and logs browsers in."""
