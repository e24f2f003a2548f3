"""Finds out what the SDK imports besides itself, for servers of the tests that fork with these modules loaded.

The SDK itself starts a thread when it is imported, which no fork would have. This file imports nothing of the project:
one of the servers has no more than Python's own start.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable


def load(importers: Iterable[str]) -> None:
    """Import all that the modules ``importers`` import, without the SDK's own modules."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        for name in importers:
            importlib.import_module(name)
        os.write(writer, "\n".join(sys.modules).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as names:
        found = names.read().split()
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise ImportError(f"cannot import {importers}")
    for name in found:
        if name.partition(".")[0] not in {"flyte", "__main__"}:
            importlib.import_module(name)
