"""Implements sd_listen_fds_with_names(3) and sd_notify(3).

It imports next to nothing: the first start of an app waits for a process that uses it (``flyted.net``).
"""

from __future__ import annotations

import _socket as socket  # socket itself takes longer to import than all the work here
import os

_FIRST_FD = 3


def listeners() -> list[tuple[str, int]] | None:
    """Return name and descriptor of each socket that systemd passes, in its order; ``None`` if it passes none.

    The variables are taken out of the environment, so that no child believes them to be its own. No child inherits the
    descriptors either.
    """
    pid, count, names = (os.environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not count.isdecimal():
        return None
    found = names.split(":") if names else ["unknown"] * int(count)
    if not found or len(found) != int(count):
        return None
    for descriptor in range(_FIRST_FD, _FIRST_FD + len(found)):
        os.set_inheritable(descriptor, False)  # noqa: FBT003
    return [(name, descriptor) for descriptor, name in enumerate(found, _FIRST_FD)]


def notify(state: str) -> bool:
    """Send systemd assignments such as ``READY=1``, one a line, and return ``False`` if that failed.

    Outside a unit it does nothing, which is not a failure.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return True
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        channel.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError:
        return False
    finally:
        channel.close()
    return True
