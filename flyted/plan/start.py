"""Writes what launch reads at each start of an app: the app's variables, and the rest of launch's command line. Pure.

The document travels as a credential, from a file that only root can read and that PID 1 reads without the daemon. A
unit's own environment and command would be visible to every user of the machine (``systemctl show``,
/run/systemd/transient, ps(1)), and systemd would change some texts in them (``$``, ``;``, line ends).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from flyted.contract.errors import InvalidInput
from flyted.launch.words import ENVIRONMENT, WORDS

CREDENTIAL = "start"
LIMIT = 96 << 10
"""Bytes. Together with 900 KiB of secrets this stays below systemd's limit (``plan.secrets.credential_bytes``)."""


def start_document(environment: Mapping[str, str], words: Iterable[str], units: object) -> bytes:
    """Return the document that ``launch/start.py`` reads. Raises :class:`InvalidInput` above :data:`LIMIT`.

    ``units``: the properties with which the units are made. The document contains their digest. So if the document of
    a pair differs from the one that would be written now, the pair itself is outdated.
    """
    digest = hashlib.sha256(json.dumps(units, sort_keys=True).encode()).hexdigest()
    content = {ENVIRONMENT: dict(environment), WORDS: list(words), "units": digest}
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    if len(data) > LIMIT:
        raise InvalidInput(
            f"the app's variables and arguments are {len(data) >> 10} KiB together; the limit is {LIMIT >> 10} KiB",
            hint="move large data to a file beside the app's code",
        )
    return data
