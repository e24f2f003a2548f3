"""Ends an app's process without the interpreter's own teardown, which takes longer than the imports of a wake.

A request that waits for the next start waits for this end. Python would join the threads, call the functions that are
registered with atexit, and then clear every module and object. The first two are done here as Python does them. Of the
third, only the effects outside of the process are produced: buffered data is written, finalizers are called, suspended
generators (context managers that were not left) are closed, and SQLite's connections too. Handlers of C libraries run
as always.
"""

from __future__ import annotations

import _io
import atexit
import contextlib
import gc
import os
import threading
from collections.abc import Callable, Iterable
from types import FunctionType, GeneratorType
from typing import Any

from .surroundings import flush


def leave(status: int) -> None:
    """End the process with this status, after all work that must not be lost.

    Return only where this cannot be done: not in the main thread, or in a Python without the private functions used.
    """
    join: Callable[[], None] | None = getattr(threading, "_shutdown", None)
    call: Callable[[], None] | None = getattr(atexit, "_run_exitfuncs", None)
    if join is None or call is None or threading.current_thread() is not threading.main_thread():
        return
    join()
    with contextlib.suppress(Exception):  # Python has printed the error
        call()
    gc.unfreeze()
    finish(gc.get_objects())
    _exit(status)


def finish(objects: Iterable[object]) -> None:
    """Produce the effects outside of the process that clearing these objects would have."""
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
        for end in _ends_of(thing):
            _quietly(thing, end)
    for thing in (*texts, *buffers):  # texts first: a text stream is flushed into a buffer
        _quietly(thing, "flush")


def _ends_outside(kind: type) -> bool:
    """Report whether the end of an object of this type does more than free memory and descriptors."""
    if kind is GeneratorType or _is_sqlite(kind) or _has_finalizer(kind):
        return True
    if issubclass(kind, _io._IOBase):  # noqa: SLF001 - the C class: io's is abstract, and its check may run code
        return not issubclass(kind, _io._RawIOBase) and kind.__module__ != "_io"  # noqa: SLF001 - GzipFile, say
    return False


def _is_sqlite(kind: type) -> bool:
    return any((each.__module__, each.__name__) == ("sqlite3", "Connection") for each in kind.__mro__)


def _has_finalizer(kind: type) -> bool:
    return any(isinstance(vars(each).get("__del__"), FunctionType) for each in kind.__mro__)


def _ends_of(thing: Any) -> list[str]:
    """Return the names of the methods that Python would call at the end of an object, in this order."""
    kind = type(thing)
    if kind is GeneratorType:
        return ["close"] if thing.gi_frame is not None and not thing.gi_running else []
    ends = ["__del__"] if _has_finalizer(kind) else []
    if _is_sqlite(kind) or not ends:  # a stream whose class has a finalizer of its own is not closed but by that
        ends.append("close")
    return ends


def _quietly(thing: object, method: str) -> None:
    """Call a method and ignore its error: it would fail in Python's own teardown too, with a message of no use."""
    with contextlib.suppress(BaseException):
        getattr(thing, method)()


def _exit(status: int) -> None:
    flush()
    try:
        import ctypes

        ctypes.PyDLL(None).exit(status)  # exit(3), which calls the handlers that C libraries have registered
    finally:
        os._exit(status)
