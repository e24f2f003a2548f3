"""Opens the daemon's stores; reports why the daemon cannot start if one of them is lost or damaged."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from flyted.contract import wire
from flyted.contract.errors import DaemonUnavailable, FlytedError, StoreCorrupt
from flyted.contract.status import CANNOT_START
from flyted.host import bundles, database, identity, recipients, reserve
from flyted.host.disk import app_folders
from flyted.host.store import Store
from flyted.host.vault import Vault
from flyted.plan.recovery import lost_database

log = logging.getLogger(__name__)

STATE = Path("/var/lib/flyted")
EX_CONFIG = 78
"""The exit status after which systemd does not start flyted again by itself (``RestartPreventExitStatus=``)."""
_APPS = Path("/var/lib")
_SEND_S = 1.0  # for each waiting client to take the reason


def opened(state: Path = STATE) -> tuple[Vault, Store]:
    """Open both stores. Raises :class:`StoreCorrupt` for one that is damaged or lost, with the way back."""
    with reserve.released(state):  # a full disk must not keep the daemon down: it is needed to delete
        vault = Vault.open(state, identity.read(os.environ, state), recipients.read(recipients.PATH))
        try:
            _check_database(state, vault)
            store = Store(state / "flyted.db")
            store.fail_pending("flyted was stopped during this deploy", time.time())
        except BaseException:
            vault.close()
            raise
    return vault, store


def refuse(listeners: Mapping[str, socket.socket], error: FlytedError) -> None:
    """Report to waiting clients why the daemon cannot start; units that wait for a credential get none."""
    why = f"flyted does not answer: {CANNOT_START}{error.message}"
    frame = wire.error_frame(DaemonUnavailable(why, hint=error.hint))
    for name, listener in listeners.items():
        while (conn := _next_client(listener)) is not None:
            with conn, contextlib.suppress(OSError):  # this one has left, or does not read
                conn.settimeout(_SEND_S)
                if name != "credentials":
                    conn.sendall(frame)


def _next_client(listener: socket.socket) -> socket.socket | None:
    try:
        return listener.accept()[0]
    except OSError:  # no other client waits
        return None


def _check_database(state: Path, vault: Vault) -> None:
    """Raise :class:`StoreCorrupt` if there is no database where there was one."""
    path = state / "flyted.db"
    if not database.is_new(path):
        return
    apps = app_folders(_APPS)
    secrets = 1 if vault.refusal is not None else vault.count
    found = lost_database(secrets, bundles.count(state / "bundles"), apps)
    if found:
        what = "is empty" if path.exists() else "is missing"
        raise StoreCorrupt(f"{path} {what}, but this machine has {found}", hint=database.WAY_BACK)


def new_database() -> int:
    """Make an empty database for the operator (``flyted --new-database``); return the exit status."""
    try:
        kept = database.begin_anew(STATE / "flyted.db")
    except FlytedError as error:
        identity.say(f"flyted: {error.message}" + (f"\n  hint: {error.hint}" if error.hint else ""))
        return error.exit_status
    identity.say("created an empty database; the apps' data is still below /var/lib/flyted-app-NAME")
    if kept:
        identity.say(f"the old files are kept as {', '.join(str(path) for path in kept)}")
    identity.say("next: systemctl restart flyted, which stops the apps that run; flytectl serve FILE for each")
    return 0
