"""The gateway as it runs, on a TCP port, before a stand-in for flyted that answers with plain data.

The gateway, its socket, uvicorn and the generated clients are real; so is the protocol to the stand-in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flyted.contract import wire
from flyted.contract.bundles import MOST
from flyted.contract.errors import FlytedError, InvalidInput, NotFound, Unauthenticated
from flyted.contract.token import new
from flyted.gateway.__main__ import server_of
from flyted.gateway.app import Gateway
from flyted.gateway.daemon import Daemon
from flyted.gateway.parts import Parts, make

TOKEN = new(b"t" * 32)
Script = Callable[[dict[str, Any], bytes, bytes], Iterator[dict[str, Any]]]


class FakeFlyted:
    """Answers verbs with what a test says. ``calls`` has every (verb, args, bulk) in the order of arrival.

    ``files``: all bundles that came, by the digest that each request names; a script gets the first of its request.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: list[tuple[str, dict[str, Any], bytes]] = []
        self.scripts: dict[str, Script] = {"whoami": lambda a, b, f: iter([{"result": WHO}])}
        self.files: dict[str, bytes] = {}
        self.open: set[str] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(os.fspath(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def answers(self, verb: str, *frames: dict[str, Any] | FlytedError) -> None:
        """The frames of a verb: events, then one result; an error is raised at the client."""
        self.scripts[verb] = lambda args, bulk, file: iter(_frame(f) for f in frames)

    def anonymous(self, verb: str, *frames: dict[str, Any] | FlytedError) -> None:
        """As :meth:`answers`, for a verb that needs no token."""
        self.answers(verb, *frames)
        self.open.add(verb)

    def verbs(self) -> list[str]:
        return [verb for verb, _, _ in self.calls if verb != "whoami"]

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                conn, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        with conn, contextlib.suppress(OSError):
            head, fds, _, _ = socket.recv_fds(conn, 4, MOST)
            (size,) = struct.unpack("!I", head)
            request = wire.parse_request(wire.decode(_exactly(conn, size)))
            bulk = _exactly(conn, request.bulk)
            came = {digest: os.pread(fd, 1 << 20, 0) for digest, fd in zip(request.bundles, fds, strict=True)}
            for fd in fds:
                os.close(fd)
            self.files |= came
            file = next(iter(came.values()), b"")
            self.calls.append((request.verb, request.args, bulk))
            for frame in self._frames(request, bulk, file):
                conn.sendall(wire.encode(frame))

    def _frames(self, request: wire.Request, bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        if request.token != TOKEN and request.verb not in self.open:
            yield {"error": Unauthenticated("this is not a flyted token").to_wire()}
        elif request.verb not in self.scripts:
            yield {"error": InvalidInput(f"flyted knows no verb {request.verb}").to_wire()}
        else:
            yield from self.scripts[request.verb](request.args, bulk, file)


WHO = {"user": "alice", "uid": 1000, "rights": ["read", "operate", "secrets"], "kind": "", "expires_at": 4e9}


def _frame(frame: dict[str, Any] | FlytedError) -> dict[str, Any]:
    return {"error": frame.to_wire()} if isinstance(frame, FlytedError) else frame


def _exactly(conn: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = conn.recv(size - len(data))
        if not more:
            raise OSError
        data += more
    return data


class Running:
    """A gateway that serves, with its parts and its stand-in for flyted."""

    def __init__(self, folder: Path) -> None:
        self.flyted = FakeFlyted(folder / "api.sock")
        (folder / "state").mkdir()
        self.state = folder / "state"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.parts: Parts
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(30)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self.parts = make(self.state, Daemon(self.flyted.path))
        self.app = Gateway(self.parts)
        self.server = server_of(self.app)
        asyncio.get_running_loop().call_later(0, self._ready.set)
        await self.server.serve(sockets=[self.listener])

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.flyted.close()


NO_APP = NotFound("there is no app 'hello'", hint="flytectl app ls")
