"""Sends one request, and reads its answer; a connection that stalls is ended."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator, Mapping
from typing import Self

from .failed import Failed, Unavailable, printable
from .reach import Reach, proxy_of
from .url import Url
from .watch import LEAST_BYTES, Watch
from .words import EX_DATAERR

_AGENT = "flyted"


class Reply:
    """An answer whose body has not been read. Use it in a ``with`` statement."""

    def __init__(self, url: Url, response: http.client.HTTPResponse, connected: socket.socket, watch: Watch) -> None:
        self.url = url
        self.status = response.status
        self.headers = response.headers
        self._response, self._socket, self._watch = response, connected, watch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.stop()
        self._response.close()
        self._socket.close()

    def pieces(self) -> Iterator[memoryview]:
        """Yield the body as it arrives. A piece is valid until the next one is asked for.

        TLS brings 16 KiB at a time. Pieces are four times as large, and no larger, because the watch has to hear of so
        many bytes. Raises :class:`Unavailable` if the body stalls or breaks off.
        """
        buffer = memoryview(bytearray(LEAST_BYTES))
        try:
            while size := self._response.readinto(buffer):
                self._watch.received(size)
                yield buffer[:size]
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from None
        if self._watch.stalled or self._response.length:
            raise self._broken(None)

    def body(self, most: int) -> bytes:
        """Return the body. Raises :class:`Failed` for one of more than ``most`` bytes; as :meth:`pieces` does."""
        data = bytearray()
        for piece in self.pieces():
            data += piece
            if len(data) > most:
                raise Failed(EX_DATAERR, f"{self.url.server} answers with more than {most >> 10} KiB")
        return bytes(data)

    def _broken(self, error: BaseException | None) -> Unavailable:
        return _broken(self.url, self._watch, error)


def request(reach: Reach, url: Url, headers: Mapping[str, str], form: str = "") -> Reply:
    """Send a GET, or a POST of ``form``, and return the answer, whatever its status.

    Raises :class:`Unavailable` if there is none, and as :meth:`Reach.connect` does.
    """
    connected, watch = reach.connect(url)
    response = http.client.HTTPResponse(connected, method="POST" if form else "GET", url=str(url))
    try:
        connected.sendall(_head(url, headers, form).encode("ascii") + form.encode("ascii"))
        response.begin()
        return Reply(url, response, connected, watch)
    except (OSError, http.client.HTTPException) as error:
        watch.stop()
        response.close()
        connected.close()
        raise _broken(url, watch, error) from None


def _head(url: Url, headers: Mapping[str, str], form: str) -> str:
    """Return a request's head. No value has a line end in it: addresses and tokens were checked."""
    proxy = proxy_of(url) if url.scheme == "http" else None
    lines = [f"{'POST' if form else 'GET'} {url if proxy else url.target} HTTP/1.1", f"Host: {url.server}"]
    lines += ["Connection: close", f"User-Agent: {_AGENT}", "Accept-Encoding: identity"]
    if proxy is not None and proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    if form:
        lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(form)}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""])


def _broken(url: Url, watch: Watch, error: BaseException | None) -> Unavailable:
    if watch.stalled or isinstance(error, TimeoutError):
        return Unavailable(f"{url.server} stalled")
    why = f": {printable(str(error))}" if error is not None and str(error) else ""
    return Unavailable(f"{url.server} broke off{why}")
