"""Tokens: what proves to the gateway and to the ingress who asks, where the kernel cannot tell. Pure.

A token is 256 random bits, so its plain SHA-256 is all that anybody stores: there is nothing to guess, and no salt
to need. The prefix lets people and scanners recognise one; HAProxy removes what looks like one before an app sees it.
"""

from __future__ import annotations

import base64
import hashlib
import re

from flyted.contract.errors import InvalidInput

PREFIX = "flyted_"
SHAPE = PREFIX + "[A-Za-z0-9_-]{43}"
"""A regular expression, read alike by Python and HAProxy."""
RANDOM_BYTES = 32
COOKIE = "__Host-flyted"
"""The prefix has browsers insist on Secure, Path=/ and no Domain=: no other host can set it (RFC 6265bis, 4.1.3.2)."""

_TOKEN = re.compile(SHAPE)


def new(random: bytes) -> str:
    """A token out of :data:`RANDOM_BYTES` random bytes, which the caller draws."""
    if len(random) != RANDOM_BYTES:
        raise InvalidInput(f"a token needs {RANDOM_BYTES} random bytes")
    return PREFIX + base64.urlsafe_b64encode(random).rstrip(b"=").decode()


def valid_shape(text: object) -> bool:
    """Whether this can be a token at all."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


def digest(token: str) -> str:
    """What is stored and compared instead of a token (or a one-time code): SHA-256 in lower-case hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()
