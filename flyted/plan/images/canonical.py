"""Writes values as text that is equal for equal values, and names them by its digest. Pure."""

from __future__ import annotations

import hashlib
import json


def canonical(value: object) -> str:
    """Return a value as JSON in one line of ASCII, equal for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))


def digest(value: object) -> str:
    """Return 32 hex digits, equal for equal values: the name of an image, a recipe or a layer."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:32]
