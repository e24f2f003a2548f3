"""The end of an app's process without the interpreter's own teardown, which takes longer than a wake's imports do.

Who waits for the next start waits for this end. Python would join the threads, call what is registered with atexit,
and then take apart every module and object. The first two are done here as Python does them. Of the third only what
has an effect outside of the process is: buffered data is written, finalizers are called, suspended generators (context
managers that nobody left) are closed, SQLite's connections too. Handlers of C libraries run as always.
"""

from __future__ import annotations

import _io
import atexit
import contextlib
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterable
from types import FunctionType, GeneratorType
from typing import Any


def leave(status: int) -> None:
    """Ends the process with this status, after all that must not be lost; returns where that is not known how."""
    join: Callable[[], None] | None = getattr(threading, "_shutdown", None)
    call: Callable[[], None] | None = getattr(atexit, "_run_exitfuncs", None)
    if join is None or call is None or threading.current_thread() is not threading.main_thread():
        return
    join()
    with contextlib.suppress(Exception):  # Python has printed it
        call()
    gc.unfreeze()
    finish(gc.get_objects())
    _exit(status)


def finish(objects: Iterable[object]) -> None:
    """Does for all objects what would be seen outside of the process if Python took them apart."""
    finalized, texts, buffers = list[Any](), list[Any](), list[Any]()
    has_finalizer: dict[type, bool] = {}
    for thing in objects:
        kind = type(thing)
        if kind not in has_finalizer:
            has_finalizer[kind] = _ends_outside(kind)
        if has_finalizer[kind]:
            finalized.append(thing)
        elif issubclass(kind, _io.TextIOWrapper):
            texts.append(thing)
        elif issubclass(kind, (_io.BufferedWriter, _io.BufferedRandom, _io.BufferedRWPair)):
            buffers.append(thing)
    for thing in finalized:
        _quietly(_end_of(thing))
    for thing in (*texts, *buffers):  # a text goes into a buffer
        if not thing.closed:
            _quietly(thing.flush)


def _ends_outside(kind: type) -> bool:
    """Whether the end of an object of this type does more than to free memory and descriptors."""
    if kind is GeneratorType or (kind.__module__, kind.__name__) == ("sqlite3", "Connection"):
        return True
    if issubclass(kind, _io._IOBase):  # noqa: SLF001 - of C, where asking its Python heirs runs no code
        return not issubclass(kind, _io._RawIOBase) and kind.__module__ != "_io"  # noqa: SLF001 - a GzipFile, say
    return any(isinstance(vars(each).get("__del__"), FunctionType) for each in kind.__mro__)


def _end_of(thing: Any) -> Callable[[], object]:
    kind = type(thing)
    if kind is GeneratorType:
        return thing.close if thing.gi_frame is not None and not thing.gi_running else bool
    if issubclass(kind, _io._IOBase) or kind.__name__ == "Connection":  # noqa: SLF001
        return thing.close  # type: ignore[no-any-return]
    return thing.__del__  # type: ignore[no-any-return]


def _quietly(end: Callable[[], object]) -> None:
    """What fails here would fail in Python's end, whose message nobody could do anything with."""
    with contextlib.suppress(BaseException):
        end()


def _exit(status: int) -> None:
    with contextlib.suppress(Exception):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    try:
        import ctypes

        ctypes.PyDLL(None).exit(status)  # of the C library: what its users have registered is called
    finally:
        os._exit(status)
