"""Builds or removes images: ``/usr/bin/python3 -IS …/flyted/build --uv UV --image HASH``, in a unit of its own.

This file only makes its neighbours importable under their usual name; ``main.py`` begins the work.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    _here = Path(__file__).resolve().parent
    sys.path[:] = [str(_here.parents[1]), *(entry for entry in sys.path if Path(entry).resolve() != _here)]
    from flyted.build.main import main

    sys.exit(main(sys.argv[1:]))
