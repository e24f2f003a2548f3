"""Reads the lease of the app's GPUs, which flyted answers to systemd as a credential, and sets CUDA's variables.

When the socket that answers for a credential closes early, systemd starts the unit with an *empty* credential. That is
no lease, and the app must not start without one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import MutableMapping

from .refused import Refused
from .words import DEVICES, ENVIRONMENT, EX_TEMPFAIL, REFUSED

_NUMBERS = re.compile(r"\d+(,\d+)*")


class NoLease(Refused):
    """A refusal for want of a lease: the app cannot start now, but may later."""

    def __init__(self, why: str) -> None:
        super().__init__(f"no GPU: {why}", EX_TEMPFAIL)


def take(credential: str | None, environ: MutableMapping[str, str]) -> None:
    """Make the granted devices, and no others, visible to CUDA.

    They are named by UUID: an index changes with the order of the buses. What a CDI spec sets replaces what the app or
    its image sets, as in a container. Without a ``credential`` do nothing. Raise
    ``NoLease`` if there is no valid lease, with flyted's reason if it gave one.
    """
    if credential is None:
        return
    lease = _read(os.path.join(environ.get("CREDENTIALS_DIRECTORY", ""), credential))
    if REFUSED in lease:
        raise NoLease(str(lease[REFUSED]))
    devices = lease.get(DEVICES)
    if not isinstance(devices, list) or not devices or not all(isinstance(each, str) for each in devices):
        raise NoLease("the lease names no device")
    given = lease.get(ENVIRONMENT, {})
    if isinstance(given, dict):
        environ.update({name: value for name, value in given.items() if isinstance(value, str)})
    wanted = environ.get("CUDA_VISIBLE_DEVICES", "")
    environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    environ["CUDA_VISIBLE_DEVICES"] = ",".join(_numbers(devices) if _NUMBERS.fullmatch(wanted) else devices)


def _numbers(devices: list[str]) -> list[str]:
    """Return the devices as numbers, for programs that read the variable as such (older vLLM).

    To be used when the app itself set numbers. CUDA counts only the devices that it can open, which are the granted
    ones, so they are 0, 1, …. A MIG partition has no number: with one, return ``devices``.
    """
    return [str(n) for n in range(len(devices))] if all(each.startswith("GPU-") for each in devices) else devices


def _read(path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            lease = json.loads(file.read())
    except OSError as error:
        raise NoLease(f"the lease did not arrive ({error.strerror})") from None
    except ValueError:
        raise NoLease("the lease is empty or damaged (see journalctl -u flyted)") from None
    if not isinstance(lease, dict):
        raise NoLease("the lease is damaged")
    return lease
