"""For every test: hypothesis keeps no files (the machine's checkout is read-only) and no clock (machines are slow)."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("flyted", database=None, deadline=None)
settings.load_profile("flyted")
