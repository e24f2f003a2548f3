"""A peer that sends a byte now and then keeps launch no longer than one that sends nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from flyted.launch import h2c, health
from flyted.launch.turn_away import TIMEOUT_S, turn_away

pytestmark = pytest.mark.slow

DRIP_S = 0.3
LONGEST_S = 8.0  # of a peer that drips: far longer than launch may wait for it


def drip(peer: socket.socket, start: bytes) -> None:
    """Sends a start, then a byte at a time until the other side ends it."""
    end = time.monotonic() + LONGEST_S
    with peer, contextlib.suppress(OSError):
        peer.sendall(start)
        while time.monotonic() < end:
            peer.sendall(b"0")
            time.sleep(DRIP_S)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def dripping(listener: socket.socket) -> Iterator[str]:
    """The address of a server that drips."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            drip(listener.accept()[0], b"")

    thread = threading.Thread(target=serve)
    thread.start()
    yield "{}:{}".format(*listener.getsockname())
    thread.join()


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nContent-Length: 999\r\n\r\n"])
def test_a_client_that_drips_does_not_hold_up_the_others(listener: socket.socket, start: bytes) -> None:
    """In its head or in its body: those behind it are answered, and the start ends in time."""
    slow = threading.Thread(target=drip, args=(socket.create_connection(listener.getsockname()), start))
    with socket.create_connection(listener.getsockname()) as other:
        other.sendall(b"GET / HTTP/1.1\r\n\r\n")
        other.shutdown(socket.SHUT_WR)
        slow.start()
        begun = time.monotonic()
        assert turn_away(listener) == 2
        assert time.monotonic() < begun + TIMEOUT_S + 0.5
        assert other.recv(4096).startswith(b"HTTP/1.1 503 ")
    slow.join()


def test_all_clients_together_have_one_deadline(listener: socket.socket) -> None:
    """However many there are."""
    threads = [
        threading.Thread(target=drip, args=(socket.create_connection(listener.getsockname()), b"GET / "))
        for _ in "1" * 9
    ]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    turn_away(listener)
    assert time.monotonic() < begun + TIMEOUT_S + 0.5
    listener.close()  # which resets those that still wait
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("asks", [health.status, lambda target, _path: h2c.Ready().at(target)])
def test_a_program_that_drips_is_asked_no_longer_than_a_silent_one(
    dripping: str, asks: Callable[[str, str], object]
) -> None:
    """Meanwhile launch would not see a signal: the app could not be stopped."""
    begun = time.monotonic()
    asks(dripping, "/")
    assert time.monotonic() < begun + health.WAIT_S + 0.5
