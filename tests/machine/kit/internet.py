"""Servers of the internet, on this machine: names that its resolver knows, and files over HTTPS for each of them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from flyted.host.network import RESOLV_CONF, nameservers
from tests.machine.kit.units import must

ADDRESS = "192.0.2.80"  # of this machine's loopback interface: apps and steps reach no 127.0.0.1 (RFC 5737)
_HEADER = struct.Struct("!6H")
_A = 1


@contextlib.contextmanager
def serving(folder: Path, *names: str) -> Iterator[None]:
    """Have each name be a server of the files in ``folder``/NAME; all other names are what they were before."""
    must("ip", "address", "replace", f"{ADDRESS}/32", "dev", "lo")
    before = RESOLV_CONF.read_text()
    try:
        with _web(folder, names), _names(frozenset(names), nameservers()[0]):
            RESOLV_CONF.write_text(f"nameserver {ADDRESS}\n")
            yield
    finally:
        RESOLV_CONF.write_text(before)
        must("ip", "address", "del", f"{ADDRESS}/32", "dev", "lo")


@contextlib.contextmanager
def _web(folder: Path, names: tuple[str, ...]) -> Iterator[None]:
    class Files(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # an answer's end is its length: apt takes the end of a connection for an error

        def translate_path(self, path: str) -> str:
            return str(folder / self.headers["Host"] / path.partition("?")[0].lstrip("/"))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((ADDRESS, 443), Files)
    with _trusted(names) as context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@contextlib.contextmanager
def _trusted(names: tuple[str, ...]) -> Iterator[ssl.SSLContext]:
    """A certificate for the names, by an authority that this machine trusts meanwhile."""
    authority = Path("/usr/local/share/ca-certificates/flyted-test-internet.crt")
    with tempfile.TemporaryDirectory() as folder:
        key, certificate, own = (f"{folder}/{name}" for name in ("tls.key", "tls.crt", "ca.crt"))
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        must("openssl", "req", "-x509", *new, "-keyout", f"{folder}/ca.key", "-out", own, "-subj", "/CN=internet")
        must("openssl", "req", *new, "-keyout", key, "-out", f"{folder}/csr", "-subj", "/CN=server",
             "-addext", f"subjectAltName={','.join(f'DNS:{name}' for name in names)}")  # fmt: skip
        must("openssl", "x509", "-req", "-in", f"{folder}/csr", "-out", certificate, "-CA", own,
             "-CAkey", f"{folder}/ca.key", "-CAcreateserial", "-copy_extensions", "copy")  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        authority.write_bytes(Path(own).read_bytes())
    must("update-ca-certificates")
    try:
        yield context
    finally:
        authority.unlink()
        must("update-ca-certificates", "--fresh")


@contextlib.contextmanager
def _names(ours: frozenset[str], other: str) -> Iterator[None]:
    """A name server (RFC 1035, over UDP) that asks ``other`` for what it does not know."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.bind((ADDRESS, 53))
        thread = threading.Thread(target=_answer, args=(asked, ours, other))
        thread.start()
        try:
            yield
        finally:
            asked.sendto(b"", (ADDRESS, 53))
            thread.join()


def _answer(asked: socket.socket, ours: frozenset[str], other: str) -> None:
    """Answer until an empty question comes."""
    while True:
        question, who = asked.recvfrom(4096)
        if not question:
            return
        threading.Thread(target=_one, args=(asked, question, who, ours, other), daemon=True).start()


def _one(asked: socket.socket, question: bytes, who: tuple[str, int], ours: frozenset[str], other: str) -> None:
    name, end = _name(question)
    with contextlib.suppress(OSError):
        asked.sendto(_own(question, end) if name in ours else _others(question, other), who)


def _name(question: bytes) -> tuple[str, int]:
    """The name that is asked for, and where it ends."""
    labels, at = [], _HEADER.size
    while size := question[at]:
        labels.append(question[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(labels).lower(), at + 1


def _own(question: bytes, end: int) -> bytes:
    """The answer for one of our names: our address, and none of IPv6."""
    number, kind = question[:2], int.from_bytes(question[end : end + 2], "big")
    record = b"\xc0\x0c" + struct.pack("!HHIH", _A, 1, 60, 4) + socket.inet_aton(ADDRESS) if kind == _A else b""
    return number + struct.pack("!5H", 0x8180, 1, bool(record), 0, 0) + question[_HEADER.size : end + 4] + record


def _others(question: bytes, server: str) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(10)
        asking.sendto(question, (server, 53))
        return asking.recv(4096)
