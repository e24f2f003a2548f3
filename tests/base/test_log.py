"""Logging for systemd's journal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CODE = """
import logging, sys
sys.path.insert(0, sys.argv[1])
from flyted.base.log import to_journal
to_journal(logging.INFO)
logging.debug("all"); logging.info("some"); logging.warning("%s", "more"); logging.critical("the end")
"""


def test_each_entry_has_its_level_first() -> None:
    """As in sd-daemon(3); what is below the level is not said."""
    done = subprocess.run([sys.executable, "-I", "-c", CODE, str(ROOT)], capture_output=True, text=True, check=True)
    assert done.stderr == "<6>some\n<4>more\n<2>the end\n"
