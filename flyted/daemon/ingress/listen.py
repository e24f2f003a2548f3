"""Chooses the ingress's ports, once per start of the daemon."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from flyted.contract.errors import HostFailure
from flyted.daemon import effects
from flyted.daemon.settings import Settings
from flyted.host import network, whole_file
from flyted.plan.ingress import sites
from flyted.plan.ingress.ports import (
    CALLS_SOCKET,
    INGRESS_SOCKET,
    INGRESS_UNIT,
    choose_ports,
    ingress_socket,
    listeners,
    listening,
    loopback_addresses,
)
from flyted.plan.ingress.sites import Site
from flyted.plan.ingress.state import LOOPBACK, Listen
from flyted.plan.unit_index import AT_REST

if TYPE_CHECKING:
    from flyted.host.units import Units

log = logging.getLogger(__name__)


def choose_ingress_ports(settings: Settings, units: Units, folder: Path, found: Collection[Site] = ()) -> Listen:
    """Decide where the ingress listens, and keep it in ``folder``/ports.json for the daemon's next start.

    ``found``: the sites.

    Called once per start of the daemon. Raises :class:`HostFailure` when no port is free or the file is not written.
    """
    file = folder / "ports.json"
    wanted = (settings.https_port, settings.http_port)
    kept = _kept(file) if units.listening(INGRESS_SOCKET) or _runs(units) else ()
    addresses = addresses_for(settings.listen, found)
    taken = listening(*network.tcp_sockets(), addresses)
    listen, notes = choose_ports(taken, *wanted, addresses=addresses, ours=kept[-2:])
    if kept[:-2] == wanted:
        # kept: no client's URL is to change because another program came or went
        listen = Listen(https_port=kept[2], http_port=kept[3], addresses=addresses)
    listen = dataclasses.replace(listen, clients=settings.clients)
    for note in notes:
        log.warning("%s", note)
    whole_file.write(file, json.dumps([*wanted, listen.https_port, listen.http_port]).encode(), 0o600)
    return listen


def addresses_for(configured: tuple[str, ...], found: Collection[Site]) -> tuple[str, ...]:
    """Return the addresses that the ingress listens on: as the settings and the sites want it, and this machine can.

    ``configured``: the addresses in the settings. A machine without IPv6 listens on no loopback or wildcard of it.
    """
    addresses = sites.addresses(configured, found)
    if set(addresses) == set(LOOPBACK):
        return loopback_addresses(network.addresses_ipv6())
    if addresses == sites.EVERYWHERE and not network.addresses_ipv6():
        return sites.EVERYWHERE[:1]
    return addresses


def check_ports(listen: Listen, now: Listen) -> None:
    """Raise :class:`HostFailure` if another program has a port of ``listen``. ``now``: the ingress's listeners."""
    taken = listening(*network.tcp_sockets(), listen.addresses, but=now)
    for port in (listen.https_port, listen.http_port):
        if port in taken:
            raise HostFailure(
                f"another program listens on port {port} of another address of this machine",
                hint=f"see which: ss -ltnp 'sport = {port}'",
            )


async def ensure_socket(units: effects.Units, listen: Listen) -> None:
    """Make PID 1 listen for the ingress; change nothing if it does already.

    Other ports cost a restart of HAProxy: it cannot be given new descriptors. Its unit has ``After=flyted.service``:
    to wait for its start here would be a deadlock. Raises :class:`HostFailure` when PID 1 cannot listen.
    """
    if units.listening(INGRESS_SOCKET) == listeners(listen):
        return
    ran = any(u.active not in AT_REST for u in units.list([INGRESS_UNIT]))
    if ran:  # a call would start the ingress again, without its ports; this comes back with the ingress
        await units.stop(CALLS_SOCKET)
    await units.stop(INGRESS_SOCKET)
    if ran:
        await units.stop(INGRESS_UNIT)
    result = await units.start_socket(INGRESS_SOCKET, ingress_socket(listen))
    if result != "done":
        raise HostFailure(
            f"cannot listen on ports {listen.https_port} and {listen.http_port} for the ingress: {result}",
            hint=f"journalctl -u {INGRESS_SOCKET} -n 5; ss -ltnp",
        )
    if ran:
        units.begin(INGRESS_UNIT)


def _runs(units: Units) -> bool:
    """Report whether HAProxy runs, or is about to.

    That of flyted 0.1.0 holds its ports itself: they are ours, and free as soon as :func:`hold` has stopped it.
    """
    return any(u.active in ("active", "activating") for u in units.list([INGRESS_UNIT]))


def _kept(file: Path) -> tuple[int, ...]:
    """Return the ports wanted and got at the last start, of flyted 0.1.0 those got; nothing if none are kept."""
    with contextlib.suppress(OSError, ValueError):
        ports = json.loads(file.read_text())
        if isinstance(ports, list) and len(ports) in (2, 4) and all(type(p) is int for p in ports):
            return tuple(ports)
    return ()
