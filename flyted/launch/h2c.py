"""Checks that a program speaks HTTP/2 without TLS at its port, as the port's name says (``Port(8080, name="h2c")``).

The ingress speaks only HTTP/2 to such a port, so a server of HTTP/1.1 could answer no request: its start fails at
once.
"""

from __future__ import annotations

import time

from .deadline import receive
from .health import FRAME_HEAD, WAIT_S, connected, is_settings
from .refused import Refused

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_NO_SETTINGS = bytes(3) + b"\x04" + bytes(5)  # an empty frame of type SETTINGS, on stream 0


class Ready:
    """The test whether a program may get requests, like ``health.Ready``: it does when it answers in HTTP/2."""

    asks = ""

    def at(self, target: str) -> bool:
        """Report whether ``target`` answers in HTTP/2. Raise ``Refused`` if it answers in another protocol."""
        said = _first_frame(target)
        if said and not is_settings(said):
            raise Refused(
                f"the port is named h2c, and what listens on {target.rpartition(':')[2]} does not speak "
                'HTTP/2 without TLS (uvicorn does not): name it "http1", or start a server that does'
            )
        return bool(said)


def _first_frame(target: str) -> bytes:
    said, end = b"", time.monotonic() + WAIT_S
    try:
        with connected(target) as connection:
            connection.sendall(_PREFACE + _NO_SETTINGS)
            while len(said) < FRAME_HEAD and (more := receive(connection, 4096, end)):
                said += more
    except TimeoutError:
        return b""  # the program may be busy
    except OSError:
        pass  # the bytes received before the error count
    return said
