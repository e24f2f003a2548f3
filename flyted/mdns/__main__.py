"""Announces the names of apps in the local network: ``/usr/bin/python3 -IS …/flyted/mdns/__main__.py FOLDER``.

This file only makes the modules beside it, and Debian's pystemd, importable.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    _here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [os.path.dirname(os.path.dirname(_here)), *(entry for entry in sys.path if entry != _here)]
    sys.path.append("/usr/lib/python3/dist-packages")
    from flyted.mdns.main import main

    sys.exit(main(Path(sys.argv[1])))
