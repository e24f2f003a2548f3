"""What pixi.sh answers in tests: a script that installs the program of ``pixi_install.py``, in its own environment."""

from __future__ import annotations

from pathlib import Path

_RATTLER = "py-rattler==0.28.0"
_INSTALL = f"""
set -e
own="$PIXI_HOME/own"
uv venv --quiet --no-cache --python 3.11 "$own"
uv pip install --quiet --no-cache --python "$own/bin/python" {_RATTLER}
mkdir -p "$PIXI_HOME/bin"
curl -fsSL https://pixi.sh/pixi_install.py >"$PIXI_HOME/bin/pixi_install.py"
printf '#!/bin/sh\\nexec %s %s "$@"\\n' "$own/bin/python" "$PIXI_HOME/bin/pixi_install.py" >"$PIXI_HOME/bin/pixi"
chmod 755 "$PIXI_HOME/bin/pixi"
"""
FILES = {"install.sh": _INSTALL, "pixi_install.py": Path(__file__).with_name("pixi_install.py").read_text()}
"""The files of the server, by name."""
