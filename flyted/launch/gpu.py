"""The lease of the app's GPUs: flyted's answer to systemd's question, as the variables that CUDA reads.

systemd starts a unit with an *empty* credential when the answering socket closes early: that is no lease, and the app
must not start without.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import MutableMapping

from .refused import EX_TEMPFAIL, Refused

_NUMBERS = re.compile(r"\d+(,\d+)*")


class NoLease(Refused):
    """The app cannot start now; later perhaps it can."""

    def __init__(self, why: str) -> None:
        super().__init__(f"no GPU: {why}", EX_TEMPFAIL)


def take(credential: str | None, environ: MutableMapping[str, str]) -> None:
    """Makes the granted devices, and no others, visible to CUDA. By UUID: an index changes with the order of buses.

    Raises ``NoLease`` when there is no lease, with flyted's reason.
    """
    if credential is None:
        return
    lease = _read(os.path.join(environ.get("CREDENTIALS_DIRECTORY", ""), credential))
    if "refused" in lease:
        raise NoLease(str(lease["refused"]))
    devices = lease.get("devices")
    if not isinstance(devices, list) or not devices or not all(isinstance(each, str) for each in devices):
        raise NoLease("the lease names no device")
    wanted = environ.get("CUDA_VISIBLE_DEVICES", "")
    environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    environ["CUDA_VISIBLE_DEVICES"] = ",".join(_numbers(devices) if _NUMBERS.fullmatch(wanted) else devices)


def _numbers(devices: list[str]) -> list[str]:
    """For programs that read the variable as numbers (older vLLM), when the app sets some.

    CUDA counts the devices that it can open, and these are all; a partition has no number.
    """
    return [str(n) for n in range(len(devices))] if all(each.startswith("GPU-") for each in devices) else devices


def _read(path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            lease = json.loads(file.read())
    except OSError as error:
        raise NoLease(f"the lease did not arrive ({error.strerror})") from None
    except ValueError:
        raise NoLease("the lease is empty or damaged (journalctl -u flyted says why)") from None
    if not isinstance(lease, dict):
        raise NoLease("the lease is damaged")
    return lease
