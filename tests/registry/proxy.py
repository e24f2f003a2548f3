"""A proxy on this machine: a way through by CONNECT, with a login or without, or whatever a test wants it to do."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Iterator


class _Handler(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.request.recv(4096)
            if not piece:
                return
            head += piece
        text = head.decode("latin-1")
        self.server.heads.append(text)
        if self.server.stalls:
            self.server.ended.wait(30)
            return
        if self.server.answer:
            self.request.sendall(self.server.answer)
            return
        if self.server.login and f"Proxy-Authorization: {self.server.login}\r\n" not in text:
            self.request.sendall(
                b'HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
            )
            return
        asked = re.match(r"CONNECT ([^ :]+):([0-9]+) HTTP/1\.1\r\n", text)
        assert asked is not None, text
        with socket.create_connection((asked[1], int(asked[2])), 5) as there:
            self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=self._copy, args=(there, self.request), daemon=True)
            back.start()
            self._copy(self.request, there)
            back.join(5)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                self.server.carried += piece[:4096]
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)


class Proxy(socketserver.ThreadingTCPServer):
    """``heads``: of all requests; ``carried``: the beginning of each piece that went through.

    ``answer``: what it says in place of a way through; ``stalls``: it says nothing.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, user: str = "", password: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heads: list[str] = []
        self.carried = bytearray()
        self.answer, self.stalls = b"", False
        self.ended = threading.Event()
        self.login = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user else ""

    def address(self, login: str = "") -> str:
        """As HTTPS_PROXY has it. ``login``: USER:PASSWORD, percent-encoded."""
        return f"http://{login}{'@' if login else ''}127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that have enough go away."""


@contextlib.contextmanager
def serving(user: str = "", password: str = "") -> Iterator[Proxy]:
    """A proxy that serves."""
    proxy = Proxy(user, password)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ended.set()
        proxy.shutdown()
        proxy.server_close()
