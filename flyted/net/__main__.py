"""The network of apps: ``/usr/bin/python3 -I -S …/flyted/net/__main__.py way-out``, ``… router`` or ``… cable``.

This file only makes its neighbours importable under their usual name; ``main.py`` begins the work. It is named in
full: to run a folder, Python imports a good deal more.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    _here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [os.path.dirname(os.path.dirname(_here)), *(entry for entry in sys.path if entry != _here)]
    from flyted.net.main import main

    sys.exit(main(sys.argv[1:]))
