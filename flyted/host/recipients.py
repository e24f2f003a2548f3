"""Reads ``/etc/flyted/recipients.txt``: the operators' public keys, to which every secret is encrypted as well."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from flyted.contract.errors import HostFailure, InvalidInput
from flyted.host.age import Recipient

PATH = Path("/etc/flyted/recipients.txt")
MAX_RECIPIENTS = 16
"""Each adds 100 bytes to every secret file, and 0.1 ms to every write."""
_MAX_BYTES = 64 * 1024
_PRIVATE = "AGE-SECRET-KEY-"


def read(path: Path) -> list[Recipient]:
    """Return the recipients in ``path``; none if there is no such file.

    Raises ``InvalidInput`` as ``parse``, and ``HostFailure`` for a file that cannot be read, or that others than root
    may write: the author of an added line can read every secret from then on.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostFailure(f"cannot read {path}: {error.strerror}") from error
    try:
        _refuse_foreign(os.fstat(fd), path)
        with os.fdopen(fd, "rb", closefd=False) as file:
            return parse(file.read(_MAX_BYTES + 1), str(path))
    finally:
        os.close(fd)


def parse(data: bytes, source: str) -> list[Recipient]:
    """Return the recipients in ``data``, in order and each once: one ``age1…`` a line.

    Empty lines and lines with ``#`` first are skipped. Raises ``InvalidInput``, which names ``source``, for a line
    that is not a recipient, a private key, text that is too long or not ASCII, and too many recipients.
    """
    if len(data) > _MAX_BYTES or not data.isascii():
        raise InvalidInput(f"{source} is not a list of recipients: it is too long, or not plain text")
    recipients: list[Recipient] = []
    for number, line in enumerate(data.decode("ascii").splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            recipients.append(_recipient(text, f"{source}, line {number}"))
    if len(set(recipients)) > MAX_RECIPIENTS:
        raise InvalidInput(f"{source} has more than {MAX_RECIPIENTS} recipients")
    return sorted(set(recipients))


def _refuse_foreign(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise HostFailure(f"{path} is not a regular file")
    if found.st_uid not in {0, os.geteuid()} or found.st_mode & 0o022:
        raise HostFailure(
            f"{path} can be changed by users other than root", hint=f"chown root {path} && chmod 644 {path}"
        )


def _recipient(text: str, where: str) -> Recipient:
    if _PRIVATE in text.upper():
        raise InvalidInput(
            f"{where}: this is a private key; it must not be on this machine",
            hint="put the public key there (age-keygen -y KEYFILE prints it), of a new pair: this key was exposed",
        )
    try:
        return Recipient.parse(text)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error.message}", hint="age-keygen -y KEYFILE prints the public key") from None
