"""Finds an app's environment as Flyte's fserve does (flyte/_bin/serve.py: ``load_app_env``, ``load_pkl_app_env``)."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Any

from .refused import Refused

_OBJECTS_WHILE_IMPORTING = 200_000  # modules are never garbage: collecting while they load takes a tenth of a wake


def load(module: str, variable: str) -> Any:
    """Import the user's module, and return the environment in its ``variable``.

    Raise ``Refused`` if the module has no such variable. Exceptions of the user's code are passed on.
    """
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS_WHILE_IMPORTING, *before[1:])
    try:
        loaded = importlib.import_module(module)
    finally:
        gc.set_threshold(*before)
    if not hasattr(loaded, variable):
        raise Refused(f"module {module} has no variable {variable!a}")
    return getattr(loaded, variable)


def load_pickled(bundle: str) -> Any:
    """Return the environment in a pickled bundle (``load_pkl_app_env`` in flyte/_bin/serve.py).

    Raise ``Refused`` if the bundle cannot be read, is not made for this Python and its packages, or holds no app.
    """
    import gzip
    import pickle
    import zlib

    try:
        with gzip.open(bundle, "rb") as file:
            found = pickle.load(file)  # noqa: S301 - the app's own code, run as the app
    except (OSError, EOFError, zlib.error, pickle.UnpicklingError) as error:
        raise Refused(f"the pickled app cannot be read: {error}") from None
    except Exception as error:  # noqa: BLE001 - whatever is in a pickle may raise anything
        version = ".".join(map(str, sys.version_info[:2]))
        raise Refused(
            f"the pickled app cannot be loaded by the image's Python {version} ({type(error).__name__}: {error}): "
            "the image needs the Python and the packages with which it was pickled"
        ) from None
    if not hasattr(found, "_server"):
        raise Refused(f"the pickle holds no app environment, but a {type(found).__name__}")
    return found
