#!/usr/bin/python3 -ISE
"""A Python that has loaded what the SDK needs, for ``flytectl serve --python``.

The tests serve about a thousand files, and these imports are most of what a serve costs. A server does them once, as
alice; for each call it forks, and the fork imports the SDK itself and runs the loader. This program stands in for
``python``: it hands its arguments, environment and descriptors over, and ends as the fork ends. It has the start of a
bare interpreter: everything else is imported where it is used.
"""

from __future__ import annotations

import _socket  # not socket, whose import takes longer than all the rest
import array
import marshal
import os
import sys

SOCKET = b"\0flyted-tests-python"
SDK = "/usr/lib/flyted/sdk"
TESTS = __file__.rpartition("/machine/")[0]
LONGEST = 256 * 1024  # bytes of a call
FDS = ("--out-fd", "--bundles-fd")


def call(arguments: list[str]) -> int:
    """Have a fork of the server run ``python ARGUMENTS``; return its exit status."""
    passed = [0, 1, 2, *(int(arguments[arguments.index(flag) + 1]) for flag in FDS)]
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    connection.connect(SOCKET)
    message = marshal.dumps((arguments, dict(os.environ), os.getcwd()))  # noqa: PTH109 - pathlib is slow
    connection.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", passed))])
    return int(connection.recv(16) or b"70")  # nothing comes if the fork was killed


def server() -> None:
    """Import what the SDK needs, and fork for each call until standard input ends."""
    import importlib
    import select
    import signal
    import socket
    import threading

    sys.path[:0] = [TESTS]
    load = importlib.import_module("sdk_modules").load
    sys.path[:1] = [f"{SDK}/cp{sys.version_info[0]}{sys.version_info[1]}", SDK]  # the forks run users' files
    load(("flyte.app.extras", "fastapi", "uvicorn"))
    assert threading.active_count() == 1, "a fork would lack these threads"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(SOCKET)
    listener.listen(8)
    print("ready", flush=True)
    while 0 not in select.select([0, listener.fileno()], [], [])[0]:
        connection = listener.accept()[0]
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(connection)
        connection.close()


def answer(connection: _socket.socket) -> None:
    """Run one call in this process and in a child of it, whose exit status the caller gets."""
    message, given, _flags, _address = connection.recvmsg(LONGEST, 1024)
    descriptors = array.array("i")
    descriptors.frombytes(given[0][2])
    child = os.fork()
    if child == 0:
        connection.close()
        arguments, environ, folder = marshal.loads(message)
        become(arguments, environ, folder, list(descriptors))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.send(str(status).encode())
    os._exit(0)


def become(arguments: list[str], environ: dict[str, str], folder: str, descriptors: list[int]) -> None:
    """Run the program that ``python ARGUMENTS`` names in this process, as a new Python would."""
    import runpy
    import signal

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in range(3):
        os.dup2(descriptors[number], number)
        os.close(descriptors[number])
    for flag, descriptor in zip(FDS, descriptors[3:], strict=True):
        arguments[arguments.index(flag) + 1] = str(descriptor)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    sys.argv = arguments
    status = 70
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(status)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--server"]:
        server()
    else:
        sys.exit(call(sys.argv[1:]))
