"""The machine's network, read once at the start: where the ingress can listen, which name servers apps need."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path

from flyted.daemon.settings import Settings
from flyted.host.units import Units
from flyted.plan.build_unit import loopback_nameservers
from flyted.plan.ingress import Listen
from flyted.plan.ports import choose_ports, listening, loopback_addresses
from flyted.plan.secrets import INGRESS_UNIT

log = logging.getLogger(__name__)


def choose_listen(settings: Settings, units: Units, folder: Path) -> Listen:
    """Decides it once per start of the daemon, and keeps it in ``folder``/ports.json for the next."""
    file = folder / "ports.json"
    running = any(u.active in ("active", "activating") for u in units.list([INGRESS_UNIT]))
    ours = _kept(file) if running else ()
    addresses = settings.listen
    if set(addresses) == {"127.0.0.1", "::1"}:
        addresses = loopback_addresses(_text(Path("/proc/net/if_inet6")))
    taken = listening(_text(Path("/proc/net/tcp")), _text(Path("/proc/net/tcp6")), addresses)
    listen, notes = choose_ports(taken, settings.https_port, settings.http_port, addresses=addresses, ours=ours)
    if len(ours) == 2 and set(ours) <= taken:
        listen = Listen(https_port=ours[0], http_port=ours[1], addresses=addresses)  # no client's URL changes
    for note in notes:
        log.warning("%s", note)
    file.write_text(json.dumps([listen.https_port, listen.http_port]))
    return listen


def nameservers() -> tuple[str, ...]:
    """The name servers on this machine's own addresses: apps may reach these, and nothing else of loopback."""
    return loopback_nameservers(_text(Path("/etc/resolv.conf")))


def _kept(file: Path) -> tuple[int, ...]:
    with contextlib.suppress(OSError, ValueError):
        ports = json.loads(file.read_text())
        if isinstance(ports, list) and all(type(p) is int for p in ports):
            return tuple(ports)
    return ()


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
