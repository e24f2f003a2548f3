"""Writes the lines by which HAProxy takes its listeners from PID 1. Pure.

systemd passes the descriptors of two socket units: of the ports and the admin socket (``ports.py``), and of the port
for calls between apps (units/flyted-calls.socket), which may come first or last. systemd says in which order, in
``LISTEN_FDNAMES`` (sd_listen_fds(3)); HAProxy reads the lines that fit.
"""

from __future__ import annotations

from collections.abc import Callable

from flyted.plan.ingress.ports import CALLS_NAME, INGRESS_SOCKET, bindable, listeners
from flyted.plan.ingress.state import Listen

FIRST_FD = 3


def admin(listen: Listen, path: str = "") -> str:
    """Return the lines for the admin socket, the first of its unit; ``path``: where HAProxy binds it itself.

    It is for root alone, and from PID 1, so that HAProxy sets no file mode wrongly. HAProxy does not start with other
    descriptors than these: one for clients could be in its place.
    """
    if path:
        return f"    stats socket {path} level admin"
    own = _names([INGRESS_SOCKET] * len(listeners(listen)))
    return (
        f"    .if {has_calls(listen)} || {own}\n    .else\n"
        '    .alert "the listeners are not those that this file is for: systemctl restart flyted"\n    .endif\n'
    ) + _either(listen, lambda shift: f"    stats socket fd@{FIRST_FD + shift} level admin")


def binds(listen: Listen, which: int, more: str, *, inherits: bool) -> str:
    """Return the lines for the listeners of HTTPS (``which`` 0) or HTTP (1); ``more``: what follows each."""
    hosts, port = bindable(listen), (listen.https_port, listen.http_port)[which]
    first = FIRST_FD + 1 + which * len(hosts)
    if not inherits:
        return "\n".join(f"    bind {host}:{port}{more}" for host in hosts)

    def lines(shift: int) -> str:
        return "\n".join(f"    bind fd@{fd}{more}  # {host}:{port}" for fd, host in enumerate(hosts, first + shift))

    return _either(listen, lines)


def for_calls(listen: Listen) -> str:
    """Return the line for the listener of calls between apps."""
    behind = FIRST_FD + len(listeners(listen))
    return _either(listen, lambda shift: f"    bind fd@{FIRST_FD if shift else behind}")


def has_calls(listen: Listen) -> str:
    """Return the condition that systemd has passed the listener for calls."""
    return f"{_names_are(listen, first=True)} || {_names_are(listen, first=False)}"


def _either(listen: Listen, lines: Callable[[int], str]) -> str:
    """Return ``lines(1)`` for the case that the listener for calls comes first, and else ``lines(0)``."""
    return f"    .if {_names_are(listen, first=True)}\n{lines(1)}\n    .else\n{lines(0)}\n    .endif"


def _names_are(listen: Listen, *, first: bool) -> str:
    others = [INGRESS_SOCKET] * len(listeners(listen))
    return _names([CALLS_NAME, *others] if first else [*others, CALLS_NAME])


def _names(names: list[str]) -> str:
    return f'streq("$LISTEN_FDNAMES","{":".join(names)}")'
