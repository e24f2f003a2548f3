"""A process that has imported the packages of the SDK, and forks at each request: ``python fork_server.py SOCKET-FD``.

A process of its own, since a fork takes no thread along: the tests' own process may have any.

A request is one message: JSON of {cwd, environ, arguments}, with the two descriptors that the loader writes to. The
answer is the exit status.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import warnings
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parent.parent.parent
REQUEST_LIMIT = 1 << 20

USED = ("flyte.app.extras", "flyte._internal.imagebuild.remote_builder", "flyte.app._runtime")


def warm() -> ModuleType:
    """The loader, with the libraries below the SDK already here."""
    os.environ["DO_NOT_TRACK"] = "1"
    warnings.simplefilter("ignore")
    importlib.import_module("tests.sdk_modules").load(USED)
    return importlib.import_module("flytectl.loader.run")


def load(loader: ModuleType, request: dict[str, object], fds: list[int]) -> int:
    """The exit status of a fork that loads what is asked for."""
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(str(request["cwd"]))
            os.environ.clear()
            os.environ.update(request["environ"])  # type: ignore[call-overload]
            document, bundles = (str(fd) for fd in fds)
            loader.main([*request["arguments"], "--out-fd", document, "--bundles-fd", bundles])  # type: ignore[misc]
        finally:
            os._exit(70)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    """Serves until the other side is closed."""
    sys.path.insert(0, str(REPOSITORY))
    loader = warm()
    with socket.socket(fileno=int(sys.argv[1])) as conn:
        while True:
            data, fds, _, _ = socket.recv_fds(conn, REQUEST_LIMIT, 2)
            if not data:
                return
            status = load(loader, json.loads(data), fds)
            for fd in fds:
                os.close(fd)
            conn.send(str(status).encode())


if __name__ == "__main__":
    main()
