"""Defines the constants that flyted and the layer program share: what one of them writes and the other reads.

This is the one file of the program that flyted imports (plan). It imports nothing of either.
"""

from __future__ import annotations

import re

FORMAT = 1
"""Of a job. Increased when the program would make something else of the same job: all layers are then rebuilt."""
JOB = "job"
"""The credential that holds the job."""
DIFF = "diff"
"""The folder of a layer that holds what its step changed: an overlay's upper folder."""
BUNDLES, BLOBS = "/var/lib/flyted/bundles", "/var/lib/flyted/blobs/sha256"
"""The folders in which the unit shows a step what it reads."""
MMDEBSTRAP, KEYRING = "/usr/bin/mmdebstrap", "/usr/share/keyrings/debian-archive-keyring.gpg"
"""The machine's files that a Debian is installed with."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The variable of an image that names none, as container runtimes set it (moby's pkg/system)."""

# Options of the program.
LAYERS = "--layers"
UV = "--uv"
LAYER_BYTES = "--layer-bytes"
LAYER_FILES = "--layer-files"
KEEP_FREE = "--keep-free"
REMOVE = "--remove"

LAYER = re.compile(r"[0-9a-f]{32}")
"""The name of a layer."""
FOLDER = re.compile(r"[0-9a-f]{64}")
"""The name of a bundle of files that a step reads: its SHA-256."""
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
"""The name of a blob of a pulled image."""
CREDENTIAL = re.compile(r"b[0-9]{1,3}")
"""The name of a credential with a secret of a step."""

BASE, IDS = 0x70000000, 65536
"""The users and groups that own layers: 0 to 65535 of an image are BASE to BASE + 65535 of the machine. useradd(8) and
systemd-nspawn(1) give none of these to anybody."""

OURS = "flyted-layer: "
"""How a line of the program's own begins, among those of the step."""
TAKES = re.compile(rf"{OURS}takes ([0-9]{{1,19}}) bytes")
"""The program's last line when it has made a layer: what its files take of the disk."""

# Exit statuses; from 64 on those of sysexits.h.
EX_STEP = 1  # the step's own command failed: its output comes before our line
EX_FULL = 2  # the step was killed because it took too much of the disk
EX_DATAERR = 65  # an archive is not as expected, or does not have what the step names
EX_UNAVAILABLE = 69  # the machine lacks what the step needs
EX_SOFTWARE = 70  # a fault of the program
EX_OSERR = 71  # the kernel refused
EX_CONFIG = 78  # the unit or the job is not as expected
