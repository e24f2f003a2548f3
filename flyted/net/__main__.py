"""Runs the network of apps: ``/usr/bin/python3 -IS …/flyted/net/__main__.py egress``, ``… router`` or ``… veth``.

This file only makes the modules beside it importable under their usual names; ``main.py`` begins the work. Units name
the file in full, since Python imports a good deal more to run a folder.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    _here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [os.path.dirname(os.path.dirname(_here)), *(entry for entry in sys.path if entry != _here)]
    from flyted.net.main import main

    sys.exit(main(sys.argv[1:]))
