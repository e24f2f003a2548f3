"""What launch is told at each start of an app: its variables, and the rest of the command line. Pure.

It travels as a credential, from a file that only root can read and that PID 1 reads by itself. A unit's own
environment and command are shown to every user of the machine (``systemctl show``, /run/systemd/transient, ps(1)), and
changed on the way (``$``, ``;``, line ends).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from flyted.contract.errors import InvalidInput

CREDENTIAL = "start"
LIMIT = 96 << 10
"""Bytes. With the secrets' 900 KiB it stays below what systemd gives a unit (``plan.secrets.room``)."""


def start_document(environment: Mapping[str, str], words: Iterable[str], units: object) -> bytes:
    """What ``launch/start.py`` reads. Raises :class:`InvalidInput` above :data:`LIMIT`.

    ``units``: the properties with which the units are made. Their digest stands in the document, so a document that
    is another one than would be written now says that the pair is not as it would be made now, either.
    """
    digest = hashlib.sha256(json.dumps(units, sort_keys=True).encode()).hexdigest()
    content = {"environment": dict(environment), "words": list(words), "units": digest}
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    if len(data) > LIMIT:
        raise InvalidInput(
            f"the app's variables and arguments are {len(data) >> 10} KiB together; {LIMIT >> 10} KiB is the limit",
            hint="put large data into a file beside the app's code",
        )
    return data
