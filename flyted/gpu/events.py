"""Waits for XID errors: faults of a GPU, or of the program on it (NVIDIA's "XID Errors").

Waiting costs nothing: the library (NVML) sleeps in the kernel. Its only wait blocks, so it needs a thread, which ends
with the process.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import pynvml

_WAIT_MS = 3_600_000
_PAUSE_S = 5.0  # a library that answers with errors must not make us spin

OnXid = Callable[[str, int], None]


def start(on_xid: OnXid) -> None:
    """Start a thread that calls ``on_xid(uuid, number)`` at each error, for as long as the process lives.

    When the library's wait itself fails, because a GPU was lost for instance, the number is 0 and the UUID "".
    """
    threading.Thread(target=_watch, args=(on_xid,), name="xid", daemon=True).start()


def _watch(on_xid: OnXid) -> None:
    while True:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            _until_error(on_xid)
            on_xid("", 0)
        time.sleep(_PAUSE_S)


def _until_error(on_xid: OnXid) -> None:
    events = pynvml.nvmlEventSetCreate()
    for index in range(pynvml.nvmlDeviceGetCount()):
        with contextlib.suppress(pynvml.NVMLError):  # old GPUs have no events; a lost one has no handle
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
    while True:
        try:
            event = pynvml.nvmlEventSetWait(events, _WAIT_MS)
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_TIMEOUT:
                continue
            return
        uuid = ""
        with contextlib.suppress(pynvml.NVMLError):
            uuid = pynvml.nvmlDeviceGetUUID(event.device)
        on_xid(uuid, int(event.eventData))
