"""The ingress's certificates for base domains other than the machine's own. Pure.

HAProxy reads a list of certificates (crt-list) when it starts: each line names a file and the host names for which it
is shown. While HAProxy runs, flyted tells it every change. The file of a certificate has its key, too: flyted keeps it
in a folder in memory, from which systemd passes it on as a credential.

The certificate for the machine's own names comes through flyted's socket. These cannot: a unit file has to name each
credential that comes through a socket, and HAProxy has to be able to start while flyted is not running.

Sources: HAProxy's configuration.txt (crt-list) and management.txt (``new``, ``set``, ``commit``, ``add``, ``del``
ssl); systemd.exec(5), ``LoadCredential=`` of a folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from flyted.plan.ingress.ports import INGRESS_UNIT

FOLDER = "/run/flyted/certificates"
"""Where flyted keeps them: a file system in memory that is never swapped (``run-flyted-certificates.mount``)."""
CREDENTIAL = "certificates"
"""The credential of the ingress that has all files of the folder."""
FILES = f"/run/credentials/{INGRESS_UNIT}/{CREDENTIAL}_"
"""What precedes a file's name where HAProxy finds it (systemd.exec(5): ``ID_FILE``)."""
LIST = "certificates.list"
PAGE = 4096
ROOM = 250 * PAGE
"""The most bytes of all of them, each in whole pages of memory. systemd gives a unit's credentials a tmpfs of 1 MiB,
and starts no unit with more; HAProxy has one more. Source: systemd's mount_credentials_fs()."""


@dataclass(frozen=True)
class Certificate:
    """A certificate chain and its key, as PEM, which HAProxy shows for the host names ``hosts``.

    ``name``: the name of its file. ``repr()`` does not show the PEM.
    """

    name: str
    hosts: tuple[str, ...]
    pem: bytes = field(repr=False)


def that_fit(certificates: Iterable[Certificate]) -> tuple[Certificate, ...]:
    """Return those for which there is room, the first ones first."""
    found, left = [], ROOM
    for each in certificates:
        size = len(f"{CREDENTIAL}_{each.name}") + len(each.pem)
        whole = -(-size // PAGE) * PAGE
        if whole <= left:
            found.append(each)
            left -= whole
    return tuple(found)


def list_text(certificates: Iterable[Certificate], files: str = FILES) -> str:
    """Return the text of the list."""
    return "".join(f"{line(each, files)}\n" for each in sorted(certificates, key=lambda each: each.name))


def line(certificate: Certificate, files: str = FILES) -> str:
    """Return a certificate's line in the list."""
    return " ".join([f"{files}{certificate.name}", *certificate.hosts])


def parse_list(text: str) -> dict[str, tuple[str, ...]]:
    """Return the host names of each file, from the answer to ``show ssl crt-list``; comments begin with ``#``."""
    rows = (row.split() for row in text.splitlines() if row.strip() and not row.startswith("#"))
    return {path: tuple(word for word in words if not word.startswith("[")) for path, *words in rows}
