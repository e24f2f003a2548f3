"""Names the authority from which certificates are ordered unless an operator says otherwise (RFC 8555)."""

from __future__ import annotations

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
"""Let's Encrypt's directories: its own, and the one for trials, whose certificates no client trusts."""
