"""A real HAProxy with flyted's own configuration in a folder of its own, and small apps behind it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from flyted.host.ca import issue_leaf, new_ca
from flyted.host.ingress import Applied, Ingress
from flyted.plan.ingress.certificates import Certificate
from flyted.plan.ingress.clients import ClientRules
from flyted.plan.ingress.config import HaproxyPaths
from flyted.plan.ingress.state import IngressState, Listen, Server

PROGRAM = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
A, B = "a.apps.localhost", "b.apps.localhost"
needs_haproxy = pytest.mark.skipif(PROGRAM is None, reason="haproxy is not installed: apt install haproxy")


def is_old() -> bool:
    """Whether this is HAProxy 2, Debian 12's: it can less, and is configured otherwise where it has to be."""
    assert PROGRAM is not None
    return "version 2." in subprocess.run([PROGRAM, "-v"], capture_output=True, text=True, check=True).stdout


class App:
    """A Unix-socket HTTP server that remembers the bytes of every connection. Its answer depends on the path."""

    def __init__(self, path: Path, name: str = "app") -> None:
        self.path, self.name = path, name
        self.seen: list[bytes] = []
        self.answers: dict[bytes, bytes] = {}  # path → all that is sent for it, instead of the usual answer
        self.connections = 0
        self.release = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(4096)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.release.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(self.connections, connection), daemon=True).start()

    def _serve(self, _number: int, connection: socket.socket) -> None:
        """Answer the one request of a connection. The first one of the server has the number 1."""
        with contextlib.suppress(OSError), connection:
            data = b""
            while b"\r\n\r\n" not in data:
                more = connection.recv(65536)
                if not more:
                    return
                data += more
            self.seen.append(data)
            path = data.split(b" ", 2)[1]
            if b"\r\nupgrade: websocket\r\n" in data.lower():
                connection.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                    b"Sec-WebSocket-Accept: %s\r\n\r\n" % websocket_accept(data)
                )
                while frame := connection.recv(65536):
                    connection.sendall(frame)
                return
            if path in self.answers:
                connection.sendall(self.answers[path])
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
                return
            if path.startswith(b"/hold"):
                self.release.wait(20)
            if path.startswith(b"/silent"):
                time.sleep(0.2)
                return
            if path.startswith(b"/busy"):
                time.sleep(0.02)
            body = b"%s\n" % self.name.encode()
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )


class Machine:
    """One HAProxy process, its ports, its certificate, its admin side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = folder / "ingress"
        self.files.mkdir()
        self.ca = new_ca()
        self.certificate = folder / "site.pem"
        self.certificate.write_bytes(issue_leaf(self.ca, now=dt.datetime.now(dt.UTC)).pem)
        self.admin = folder / "admin.sock"
        https, http, self.calls = free_ports(3)
        self.listen = Listen(https, http, ("127.0.0.1",))
        others = folder / "certificates"
        others.mkdir()
        self.places = HaproxyPaths(
            str(self.files), str(self.certificate), f"{others}/", str(others), f"unix@{self.admin} mode 600",
            inherits=False, gateway=str(folder / "gateway.sock"), calls=f"127.0.0.1:{self.calls}",
            journal=str(folder / "journal"),
        )  # fmt: skip
        self.entries: list[dict[str, str]] = []
        self._journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._journal.bind(self.places.journal)
        self.certificates: list[Certificate] = []
        self.ingress = Ingress(self.admin, self.files, places=self.places, certificates=lambda: self.certificates)
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "haproxy.log"
        self._apps: list[App] = []
        self._reader = threading.Thread(target=self._read_journal, daemon=True)
        self._reader.start()

    def _read_journal(self) -> None:
        """Stands for journald: reads entries in its own protocol, and adds their messages to HAProxy's output."""
        while datagram := self._journal.recv(1 << 16):
            lines = datagram.decode(errors="replace").split("\n")
            self.entries.append({name: value for name, _, value in (line.partition("=") for line in lines)})
            with self.log.open("a") as log:
                log.write(f"{self.entries[-1].get('MESSAGE', datagram)}\n")

    def app(self, name: str) -> App:
        made = App(self.folder / f"{name}.sock", name)
        self._apps.append(made)
        return made

    def gateway(self) -> App:
        """Something where the gateway would be."""
        return self.app("gateway")

    def server(self, name: str, maxconn: int = 1024) -> Server:
        return Server(name, str(self.folder / f"{name}.sock"), maxconn)

    def start(self) -> None:
        """Starts HAProxy with the files as they are; returns when it accepts connections."""
        config = str(self.files / "haproxy.cfg")
        assert PROGRAM is not None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([PROGRAM, "-db", "-f", config], stdout=log, stderr=log)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.listen.https_port), 1):
                with socket.socket(socket.AF_UNIX) as admin:  # HAProxy moves it into place last
                    admin.connect(str(self.admin))
                return
            time.sleep(0.01)
        raise AssertionError("HAProxy did not come up: " + self.log.read_text())

    def reconfigured(self, *changes: tuple[str, str]) -> None:
        """Starts HAProxy anew with other words in its configuration, each of which has to be there."""
        config = self.files / "haproxy.cfg"
        text = config.read_text()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        config.write_text(text)
        self.stop()
        self.start()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.admin.unlink(missing_ok=True)

    def close(self) -> None:
        for app in self._apps:
            app.close()
        self.stop()
        self._journal.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._journal.close()

    def tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ca.cert_pem.decode())
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    def connect(
        self, host: str = "a.apps.localhost", *, timeout: float = 10, protocols: Sequence[str] = ()
    ) -> ssl.SSLSocket:
        """A TLS connection; ``protocols``: what it offers in ALPN."""
        context = self.tls()
        if protocols:
            context.set_alpn_protocols(protocols)
        plain = socket.create_connection(("127.0.0.1", self.listen.https_port), timeout)
        return context.wrap_socket(plain, server_hostname=host)

    def send(self, raw: bytes, *, host: str = "a.apps.localhost") -> bytes:
        """Sends bytes over TLS, returns all that comes back until HAProxy closes or is silent."""
        with self.connect(host) as connection:
            return exchange(connection, raw)

    def send_plain(self, raw: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.listen.http_port), 10) as connection:
            return exchange(connection, raw)

    def call(self, raw: bytes, source: str, quiet: float = 5.0) -> bytes:
        """Sends bytes as an app that has the address ``source`` would, to call another one."""
        where = ("127.0.0.1", self.calls)
        with socket.create_connection(where, 10, source_address=(source, 0)) as connection:
            return exchange(connection, raw, quiet)

    def get(self, path: str = "/", host: str = "a.apps.localhost", headers: str = "") -> tuple[int, str, str]:
        """(status, head, body)."""
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n"
        return parsed(self.send(head.encode(), host=host))


def websocket_accept(request: bytes) -> bytes:
    """RFC 6455 4.2.2; HAProxy checks it."""
    found = re.search(rb"\r\nsec-websocket-key: ([^\r]+)", request, re.IGNORECASE)
    assert found is not None
    return base64.b64encode(hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def exchange(connection: socket.socket, raw: bytes, quiet: float = 5.0) -> bytes:
    connection.sendall(raw)
    connection.settimeout(quiet)
    data = b""
    with contextlib.suppress(TimeoutError, ConnectionResetError, ssl.SSLEOFError):
        while more := connection.recv(65536):
            data += more
    return data


def parsed(answer: bytes) -> tuple[int, str, str]:
    head, _, body = answer.decode("utf-8", "replace").partition("\r\n\r\n")
    return int(head.split(" ", 2)[1]), head, body


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens, each another one."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def free_port() -> int:
    """A port on which nobody listens."""
    return free_ports(1)[0]


@contextlib.contextmanager
def machine(folder: Path, state: IngressState | None = None, clients: ClientRules | None = None) -> Iterator[Machine]:
    made = Machine(folder)
    made.listen = replace(made.listen, clients=clients or made.listen.clients)
    try:
        made.ingress.write(state or IngressState(), made.listen)
        made.start()
        yield made
    finally:
        made.close()


def one(box: Machine, name: str = "a-r1-0", host: str = "a.apps.localhost", limit: int = 0) -> IngressState:
    """One app, one server; ``limit`` in milliseconds."""
    return IngressState(
        servers={name: box.server(name)}, hosts={host: name}, timeouts_ms={name: limit} if limit else {}
    )


def apply(box: Machine, wanted: IngressState, listen: Listen | None = None) -> Applied:
    return asyncio.run(box.ingress.apply(wanted, listen or box.listen))


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Waits for another process's event that cannot be waited for otherwise."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
