"""Rotates the machine's identity: a new secret store is written beside the old one, then replaces it.

``flyted-rotate.service`` calls ``main`` before a start of ``flyted.service``, when a rotation has been asked for or is
not finished; only this unit can both seal an identity and have the store for itself. Killed, it leaves one of these:

1. ``rotate``, the request. It is removed first, so that a rotation that fails is not tried again unasked.
2. ``rotating/``: the new identity, sealed, and a new store. flyted's start sweeps it, as 1: nothing has happened.
3. ``rotated/``: the same after the rename that is the commit. From here there is no way back, only on: flyted does
   not start (and so is started again, with this unit before it) until the store, then the identity, are in place, and
   what was there before them is put aside to be swept.

It is done offline because it needs a right that the daemon lacks (to seal a key), and sole use of what the daemon
holds (the store). Meanwhile apps serve, and PID 1 holds the sockets. What would change this decision: stores so large
that rewriting them takes noticeable time.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from flyted.contract.errors import FlytedError, HostFailure, StoreCorrupt
from flyted.host import identity, recipients
from flyted.host.age import Identity
from flyted.host.identity import SEALED, say
from flyted.host.private_dir import PrivateDir
from flyted.host.secret_files import ROTATED, ROTATING, ROTATION_ASKED, SECRETS, host_errors
from flyted.host.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flyted.host.age import Recipient

_REPLACED = "replaced"
_UNFINISHED = "the rotation is not finished; flyted continues it at its next start"
_MAX_SEALED = 64 * 1024


def rotate(directory: Path, old: Identity, new: Identity, sealed: bytes, recovery: Sequence[Recipient]) -> None:
    """Make ``new`` (``sealed``, as systemd will unseal it) the identity of the store below ``directory``.

    All or nothing. Raises as ``Vault.open`` and ``Vault.ask_rotation``, and ``HostFailure``: then nothing has changed,
    unless it says that the rotation is not finished; then the next call of ``finish`` continues it.
    """
    with contextlib.ExitStack() as opened:
        with host_errors("the identity was not rotated"):
            vault = opened.enter_context(contextlib.closing(Vault.open(directory, old, recovery)))
            state = opened.enter_context(contextlib.closing(PrivateDir.open(directory, forbidden=0o022)))
            _commit(state, vault, new, sealed)
        with host_errors(_UNFINISHED):
            state.sync()
            finish(state)


def _commit(state: PrivateDir, vault: Vault, new: Identity, sealed: bytes) -> None:
    """Write the new store and identity beside the old ones, and commit to them; an error leaves nothing behind."""
    if ROTATING in state.names():
        raise HostFailure(f"{state.path / ROTATING} is left over from another rotation and cannot be removed")
    try:
        with contextlib.closing(state.private_child(ROTATING)) as making:
            with contextlib.closing(making.private_child(SECRETS)) as secrets:
                vault.write_anew(secrets, new)
            making.write(SEALED, sealed)
            making.sync()
        state.rename(ROTATING, ROTATED)
    except BaseException:
        state.remove_tree(ROTATING)
        raise


def finish(state: PrivateDir) -> bool:
    """Finish a rotation from wherever it was cut off after its commit; return ``False`` if there is none to finish.

    Raises ``OSError``; then it has to be called again.
    """
    if ROTATED not in state.names():
        return False
    with contextlib.closing(state.private_child(ROTATED)) as made:
        names = made.names()
        if SECRETS in names:
            if _REPLACED not in names:
                state.rename(SECRETS, _REPLACED, to=made)
                made.sync()
            made.rename(SECRETS, SECRETS, to=state)
            state.sync()
        if SEALED in names:
            made.rename(SEALED, SEALED, to=state)
            state.sync()
    state.remove_tree(ROTATING)
    state.rename(ROTATED, ROTATING)  # done; what cannot be removed now is swept at the next start
    state.sync()
    state.remove_tree(ROTATING)
    return True


def main() -> int:
    """Run ``flyted --rotate``, and return the exit status; nothing secret is printed."""
    try:
        with contextlib.closing(PrivateDir.open(identity.STATE, forbidden=0o022)) as state:
            _run(state)
    except FlytedError as error:
        say(error.message + (f"\nhint: {error.hint}" if error.hint else ""))
        return error.exit_status
    return 0


def _run(state: PrivateDir) -> None:
    with host_errors(_UNFINISHED):
        finished = finish(state)
    if finished:
        key = _identity(state).recipient
        say(f"finished a rotation of this machine's identity that was interrupted; its public key is {key}")
    with host_errors("the identity was not rotated"):
        if ROTATION_ASKED not in state.names():
            return
        _take_request(state)
    old, new = _identity(state), Identity.generate()
    recovery = recipients.read(recipients.PATH)
    rotate(state.path, old, new, identity.seal(new), recovery)
    say(f"this machine has a new identity; its public key is {new.recipient} (it was {old.recipient})")


def _identity(state: PrivateDir) -> Identity:
    """Return the machine's identity, or raise ``StoreCorrupt``, ``HostFailure`` or ``InvalidInput``."""
    path = state.path / SEALED
    try:
        with host_errors(f"{path} cannot be read"):
            sealed = state.read(SEALED, _MAX_SEALED)
    except StoreCorrupt as error:
        raise StoreCorrupt(f"{path} {error.message}", hint="restore it from a backup") from error
    if sealed is None:
        raise HostFailure(f"{path} is missing", hint="restore it from a backup")
    return identity.unseal(sealed)


def _take_request(state: PrivateDir) -> None:
    """Remove the request, or raise ``HostFailure``: one that stays would be a rotation at each start."""
    state.remove(ROTATION_ASKED)
    if ROTATION_ASKED in state.names():
        path = state.path / ROTATION_ASKED
        raise HostFailure(
            f"the identity was not rotated: {path} cannot be removed", hint=f"ls -ld {path}; lsattr {path}"
        )
    state.sync()
