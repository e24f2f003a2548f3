"""Prints the traceback of the app's own code when it fails, without the frames of launch."""

from __future__ import annotations

import os
import traceback
from types import TracebackType

from .surroundings import tell

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_MACHINERY = ("<frozen importlib.", "<frozen runpy>")
_STDLIB = os.path.dirname(os.__file__) + os.sep
_ENTRY = ("importlib" + os.sep, "asyncio" + os.sep, "runpy.py", "threading.py")


def show(error: BaseException) -> None:
    """Print the traceback to stderr, from the first frame of the app's code on."""
    tell("".join(traceback.format_exception(type(error), error, theirs(error.__traceback__))))


def theirs(frames: TracebackType | None) -> TracebackType | None:
    """Return the frames without the first ones that only lead into the app: launch, importlib, asyncio, runpy."""
    while frames is not None and _leads_in(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _leads_in(filename: str) -> bool:
    if filename.startswith(_OURS) or filename.startswith(_MACHINERY):
        return True
    return filename.startswith(_STDLIB) and filename[len(_STDLIB) :].startswith(_ENTRY)
