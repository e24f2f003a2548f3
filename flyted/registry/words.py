"""Defines the constants that flyted and the registry client share: what one of them writes and the other reads.

With ``reference.py`` it is what flyted imports of the client (plan). It imports nothing of either.
"""

from __future__ import annotations

import re

FORMAT = 1
"""Of a record."""
AUTH = "auth"
"""The credential with the logins, as Docker's config.json has them. It may be absent."""
SHA256, PARTS, PULLED, RESOLVED = "sha256", "parts", "pulled", "resolved"
"""The folders of the store: blobs by digest, what has arrived of others, and records by the manifest's digest.

A record in ``pulled`` is written last: all of the image's blobs are there. One in ``resolved`` says the same of an
image of which only manifest and config were fetched.
"""

# Options of the client.
PULL = "--pull"
PLATFORM = "--platform"
RESOLVE_ONLY = "--resolve-only"
MIRROR = "--mirror"  # REGISTRY=URL
MOST_BYTES = "--most-bytes"
CHECK = "--check-mirrors"  # nothing is pulled: all mirrors are asked whether they are registries

OURS = "flyted-pull: "
"""How a line of the client begins."""
DONE = re.compile(r"\S+ is (?P<name>\S+)@(?P<digest>sha256:[0-9a-f]{64})")
"""The last line of a pull, behind what all begin with: which image a reference is, by the manifest's digest."""

MIRROR_IS = re.compile(r"mirror (?P<registry>\S+) (?P<how>[a-z]+): (?P<text>.+)")
"""The line of CHECK for a mirror, behind what all begin with. ``how``: one of the following."""
ANSWERS, LOGIN, UNTRUSTED, OTHER, UNREACHABLE = "answers", "login", "untrusted", "other", "unreachable"
"""As a registry; if one has a login; with a certificate that is not trusted; as something else; not at all."""
CHECK_S = 10
"""How long a check takes at most: what has not answered by then is unreachable."""

# Exit statuses; from 64 on those of sysexits.h.
EX_DATAERR = 65  # what the registry sent is damaged, or not what was asked for
EX_NOTFOUND = 66  # the registry has no such image
EX_UNFIT = 67  # an image, but none that this machine can run
EX_REFUSED = 68  # an address that a pull must not connect to
EX_UNAVAILABLE = 69  # the registry cannot be reached, or cannot answer
EX_SOFTWARE = 70  # a fault of flyted
EX_IOERR = 74  # a file or folder could not be read or written, or there is no room
EX_NOPERM = 77  # the registry wants a login, or another one
EX_CONFIG = 78  # the unit's options or logins are not as expected
