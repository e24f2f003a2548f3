"""Defines the constants that flyted and the builder share: what one of them writes and the other reads.

This is the one file of the builder that flyted imports (plan). It imports nothing of either, and reads on Python 3.10.
"""

from __future__ import annotations

import re

FORMAT = 1
"""Of recipe and record. Increased when the builder would make something else of the same recipe: all images are then
rebuilt."""
RECIPE = "recipe"
"""The credential that holds the recipe."""
RECORD = "image.json"
"""The file in an image's folder that is written last: an image that has it is complete."""

# Options of the builder.
UV = "--uv"
IMAGE = "--image"
ISOLATED = "--isolated"
SECRET = "--secret"  # noqa: S105 - CREDENTIAL=VARIABLE
REMOVE = "--remove"
PRUNE = "--prune"

HASH = re.compile(r"[0-9a-f]{32}")
"""The name of an image."""

OURS = "flyted-build: "
"""How a line of the builder's own begins, among uv's."""
REASON = r"\s*(?:╰─▶|├─▶|error:|cause:|Caused by:)\s*"
"""How a line of uv's with a reason begins (a regular expression)."""

# Exit statuses; from 64 on those of sysexits.h.
EX_INSTALL = 1  # uv failed: its own output comes before our line
EX_ISOLATED = 3  # a package has no wheel: only a build that can write nothing but its image may continue
EX_UNAVAILABLE = 69  # no usable Python
EX_IOERR = 74  # a file or folder could not be read or written
EX_TEMPFAIL = 75  # another builder has the image locked
EX_CONFIG = 78  # the unit, the recipe or uv's settings are not as expected
