"""HTTP/2 by hand (RFC 9113, RFC 7541): a client library would refuse to send what an attacker sends."""

from __future__ import annotations

import contextlib
import ssl
import struct

from tests.host.haproxy import Machine

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1

Fields = list[tuple[bytes, bytes]]


def request(path: bytes = b"/", host: bytes = b"a.apps.localhost", method: bytes = b"GET") -> Fields:
    return [(b":method", method), (b":scheme", b"https"), (b":authority", host), (b":path", path)]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def packed(fields: Fields) -> bytes:
    """Each field as a literal that is never indexed, not compressed: any byte can be said."""
    return b"".join(b"\x10" + _text(name) + _text(value) for name, value in fields)


def _text(value: bytes) -> bytes:
    size = len(value)
    if size < 127:
        return bytes([size]) + value
    size -= 127
    head = b"\x7f"
    while size >= 128:
        head += bytes([size % 128 | 128])
        size //= 128
    return head + bytes([size]) + value


def connected(box: Machine, host: str = "a.apps.localhost") -> ssl.SSLSocket:
    """A connection to the ingress on which HTTP/2 has begun."""
    connection = box.connect(host, protocols=["h2"])
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
    return connection


def sent(connection: ssl.SSLSocket, stream: int, fields: Fields, *, body: bytes | None = None) -> None:
    flags = END_HEADERS | (END_STREAM if body is None else 0)
    data = b"" if body is None else frame(DATA, END_STREAM, stream, body)
    connection.sendall(frame(HEADERS, flags, stream, packed(fields)) + data)


def frames(connection: ssl.SSLSocket, seconds: float, until: set[tuple[int, int]]) -> list[tuple[int, int, bytes]]:
    """(type, stream, payload) of all that comes, until one of ``until`` (type, stream) has come or it is silent."""
    connection.settimeout(seconds)
    found: list[tuple[int, int, bytes]] = []
    data = b""
    with contextlib.suppress(TimeoutError, ConnectionResetError, ssl.SSLError):
        while more := connection.recv(65536):
            data += more
            while len(data) >= 9 and len(data) >= 9 + (size := int.from_bytes(data[:3], "big")):
                kind, stream = data[3], int.from_bytes(data[5:9], "big") & 0x7FFFFFFF
                found.append((kind, stream, data[9 : 9 + size]))
                if kind == SETTINGS and not data[4] & ACK:
                    connection.sendall(frame(SETTINGS, ACK, 0))
                data = data[9 + size :]
                if (kind, stream) in until:
                    return found
    return found
