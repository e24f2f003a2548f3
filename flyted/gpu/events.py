"""Waits for XID errors: what a GPU, or the program on it, did wrong (NVIDIA's "XID Errors").

Waiting costs nothing: the library sleeps in the kernel. It can only be waited for in a thread, which ends with the
process.
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
    """Calls ``on_xid(uuid, number)`` from a thread of its own at each error, for as long as the process lives.

    When the library itself fails, a GPU being lost for instance, the number is 0 and the UUID "".
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
