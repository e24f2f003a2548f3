"""Makes tokens, which identify callers to the gateway and the ingress, where the kernel cannot. Pure.

A token is 256 random bits, so only its plain SHA-256 is stored: it cannot be guessed, and no salt is needed. By the
prefix people and scanners recognise a token; HAProxy removes any text of that form before an app sees it.
"""

from __future__ import annotations

import base64
import hashlib
import re

from flyted.contract.errors import InvalidInput

PREFIX = "flyted_"
SHAPE = PREFIX + "[A-Za-z0-9_-]{43}"
"""A regular expression for tokens, which Python and HAProxy read alike."""
RANDOM_BYTES = 32
COOKIE = "__Host-flyted"
"""Because of its prefix browsers insist on Secure, Path=/ and no Domain=, so that no other host can set the cookie
(RFC 6265bis, 4.1.3.2)."""

_TOKEN = re.compile(SHAPE)


def new(random: bytes) -> str:
    """Make a token of :data:`RANDOM_BYTES` random bytes, which the caller draws.

    Raise :class:`InvalidInput` for another number of bytes.
    """
    if len(random) != RANDOM_BYTES:
        raise InvalidInput(f"a token needs {RANDOM_BYTES} random bytes")
    return PREFIX + base64.urlsafe_b64encode(random).rstrip(b"=").decode()


def valid_shape(text: object) -> bool:
    """Report whether ``text`` has the form of a token."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


def digest(token: str) -> str:
    """Return the SHA-256 of a token (or a one-time code) in lower-case hexadecimal, which is stored and compared."""
    return hashlib.sha256(token.encode()).hexdigest()
