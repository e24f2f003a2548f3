"""Whether a program speaks HTTP/2 without TLS at its port, as the name of the port says (``Port(8080, name="h2c")``).

The ingress speaks nothing else to it then, so a server of HTTP/1.1 would answer nobody: the start ends at once.
"""

from __future__ import annotations

from .health import connected
from .refused import Refused

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_NO_SETTINGS = bytes(3) + b"\x04" + bytes(5)  # an empty frame of type SETTINGS, on stream 0
_HEAD = 9


class Ready:
    """When the program may get requests, like ``health.Ready``: when it answers in HTTP/2."""

    asks = ""

    def at(self, target: str) -> bool:
        """Asks at ``target``. Raises ``Refused`` where something else is spoken."""
        said = _first_frame(target)
        if said and not _is_settings(said):
            raise Refused(
                f"the port is named h2c, and what listens on {target.rpartition(':')[2]} does not speak "
                'HTTP/2 without TLS (uvicorn does not): name it "http1", or start a server that does'
            )
        return bool(said)


def _is_settings(said: bytes) -> bool:
    """A server begins with this frame, whatever it is asked (RFC 9113 3.4); no other protocol has these bytes."""
    return len(said) >= _HEAD and said[3] == 4 and said[4:_HEAD] == bytes(5)


def _first_frame(target: str) -> bytes:
    said = b""
    try:
        with connected(target) as connection:
            connection.sendall(_PREFACE + _NO_SETTINGS)
            while len(said) < _HEAD and (more := connection.recv(4096)):
                said += more
    except TimeoutError:
        return b""  # it may be busy
    except OSError:
        pass  # what it has said before counts
    return said
