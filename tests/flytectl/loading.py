"""Runs the real loader with the real SDK, without changing user: for tests that are about something else.

``load_for_real`` starts a Python as ``flytectl`` does. ``load_file`` asks a process that has imported what
the SDK is built on to fork: the same code and the same answer, without 0.5 s of imports per test.
"""

from __future__ import annotations

import importlib.util
import io
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flytectl.loaded import Loaded, LoadedApp

import atexit
import functools
import json
import socket
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

from flytectl import load, loaded, pythons

if TYPE_CHECKING:
    from flytectl.loaded import Loaded

APPS = Path(__file__).parent.parent / "apps"
REPOSITORY = Path(__file__).resolve().parent.parent.parent
DOCUMENT = REPOSITORY / "tests/document"
BASIC_AUTH = REPOSITORY / "examples/basic_auth.py"

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
    """What ``flytectl serve`` would load, by a fork of the fork_server."""
    request = {
        "cwd": str(Path.cwd()),
        "environ": dict(os.environ) | {"DO_NOT_TRACK": "1"},
        "arguments": [str(file.absolute()), *arguments],
    }
    document, bundles = os.memfd_create("document"), os.memfd_create("bundles")
    try:
        conn = _fork_server()
        socket.send_fds(conn, [json.dumps(request).encode()], [document, bundles])
        status = int(conn.recv(16))
        load._check(status, os.fstat(document).st_size, file, pythons.Python(sys.executable, "option"))
        return loaded.read(document, bundles)
    finally:
        os.close(document)
        os.close(bundles)


@functools.cache
def _fork_server() -> socket.socket:
    """Where it listens; it ends with this process."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(60)
    with its:
        process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("fork_server.py"), str(its.fileno())],
            pass_fds=[its.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def load_for_real(file: Path, *arguments: str, **extra: str) -> Loaded:
    """What ``flytectl serve`` would load, in the Python that runs the tests."""
    return load.run(file.absolute(), pythons.Python(sys.executable, "option"), caller(**extra), list(arguments))


def write(folder: Path, name: str, text: str) -> Path:
    """A file with unindented ``text``."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))
    return file


def contents(app: LoadedApp) -> dict[str, bytes]:
    """The files in an app's bundle."""
    assert app.bundle_fd is not None
    data = io.BytesIO(os.pread(app.bundle_fd, os.fstat(app.bundle_fd).st_size, 0))
    with tarfile.open(fileobj=data) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}  # type: ignore[union-attr]


def resolver(app: LoadedApp) -> str:
    """``module:variable`` that the running app will import."""
    command = app.idl["spec"]["container"]["command"]
    return str(command[command.index("--resolver-args") + 1])


def by_name(loaded: Loaded) -> dict[str, LoadedApp]:
    """The apps by their names."""
    return {app.name: app for app in loaded.apps}
