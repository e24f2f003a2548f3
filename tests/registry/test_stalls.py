"""A server that keeps a pull waiting is given up, after the time that a test sets to half a second."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.registry.server import Handler, Registry, digest, drip, layer_of
from tests.registry.test_pull import failure

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
        (b"HTTP/1.1 401 No\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 100000\r\n\r\n", b"x"),
    ],
)
def test_it_is_given_up(registry: Registry, tmp_path: Path, head: bytes, drop: bytes) -> None:
    registry.rules["."] = lambda h: drip(h, head, drop)
    began = time.monotonic()
    failure(registry.pull(tmp_path, timeout_s=0.5, tries=2).pull)
    assert time.monotonic() - began < 8


def test_what_comes_slowly_comes(registry: Registry, tmp_path: Path) -> None:
    """Half of a layer each time, but never silent for long."""
    data = layer_of("slow", 800_000)
    registry.add_image("v1", layers=(data,))

    def slowly(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data))
        for at in range(0, len(data), 100_000):
            handler.wfile.write(data[at : at + 100_000])
            handler.wfile.flush()
            time.sleep(0.2)

    registry.rules[digest(data)] = slowly
    registry.pull(tmp_path, timeout_s=0.8, tries=1).pull()
    assert len(registry.asked_for(digest(data))) == 1
