"""Runs the real loader with the real SDK, without changing user: for tests that are about something else.

``load_for_real`` starts a Python as ``flytectl`` does. ``load_file`` forks this one after it has imported what the
SDK is built on: the same code and the same answer, without 0.5 s of imports per test.
"""

from __future__ import annotations

import faulthandler
import functools
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flytectl import load, loaded, pythons

if TYPE_CHECKING:
    from types import ModuleType

    from flytectl.loaded import Loaded

APPS = Path(__file__).parent.parent / "apps"
REPOSITORY = Path(__file__).resolve().parent.parent.parent
SEEDS = REPOSITORY.parent / "shared" / "seeds"

needs_sdk = pytest.mark.skipif(importlib.util.find_spec("flyte") is None, reason="needs the Flyte SDK in this Python")

FASTAPI = """
    from fastapi import FastAPI
    from flyte.app.extras import FastAPIAppEnvironment
    app = FastAPI()
    env = FastAPIAppEnvironment(name="hello", app=app, requires_auth=False)
"""


def caller(**extra: str) -> pythons.Caller:
    """Ourselves, with a few variables more."""
    return pythons.Caller(None, dict(os.environ) | extra)


def load_file(file: Path, *arguments: str) -> Loaded:
    """What ``flytectl serve`` would load, by a fork of this process."""
    run = _warm_loader()
    document, bundles = os.memfd_create("document"), os.memfd_create("bundles")
    try:
        pid = os.fork()
        if pid == 0:
            try:
                warnings.simplefilter("ignore")  # pytest makes errors of them
                faulthandler.disable()
                run.main([str(file.absolute()), "--out-fd", str(document), "--bundles-fd", str(bundles), *arguments])
            finally:
                os._exit(70)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        load._check(status, os.fstat(document).st_size, file, pythons.Python(sys.executable, "option"))
        return loaded.read(document, bundles)
    finally:
        os.close(document)
        os.close(bundles)


# The SDK itself must not be here: it starts a thread when it is imported, which a fork does not have.
USED = """
import json, sys
for name in ("flyte.app.extras", "flyte._internal.imagebuild.remote_builder", "flyte.app._runtime"):
    __import__(name)
print(json.dumps([name for name in sys.modules if name.split(".")[0] not in ("flyte", "__main__")]))
"""


@functools.cache
def _warm_loader() -> ModuleType:
    """The loader, with the libraries below the SDK already here."""
    os.environ["DO_NOT_TRACK"] = "1"
    listed = subprocess.run([sys.executable, "-c", USED], check=True, capture_output=True, timeout=60).stdout
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in json.loads(listed):
            importlib.import_module(name)
    return importlib.import_module("flytectl.loader.run")


def load_for_real(file: Path, *arguments: str, **extra: str) -> Loaded:
    """What ``flytectl serve`` would load, in the Python that runs the tests."""
    return load.run(file.absolute(), pythons.Python(sys.executable, "option"), caller(**extra), list(arguments))


def write(folder: Path, name: str, text: str) -> Path:
    """A file with unindented ``text``."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))
    return file
