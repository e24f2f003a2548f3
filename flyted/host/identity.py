"""Manages the machine's identity: created once, stored only sealed by ``systemd-creds``, unsealed at each start.

``flyted-setup.service`` calls ``main`` before the first start of ``flyted.service``, which then reads the identity
from its credentials (``LoadCredentialEncrypted=flyted-identity:…``). In the clear it is only in those two processes,
in that of a rotation (``rotation``), in their pipes to ``systemd-creds``, and in memory that systemd never swaps.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flyted.contract.errors import AlreadyExists, FlytedError, HostFailure, StoreCorrupt
from flyted.host import recipients
from flyted.host.age import Identity
from flyted.host.private_dir import PrivateDir
from flyted.host.secret_files import MANIFEST, SECRETS, host_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CREDENTIAL = "flyted-identity"
"""The credential's name. It is bound inside the sealed file: systemd refuses it under any other name."""
SEALED = "identity.cred"
STATE = Path("/var/lib/flyted")
_CREDS = "/usr/bin/systemd-creds"
REFUSED = "identity.refused"
"""The file of a sealed identity that this machine could not open at its last try."""
NONE = b"none"
"""The credential that the unit sets where there is no sealed identity (``SetCredential=`` in flyted.service)."""
WAY_BACK = (
    "restore what is missing from a backup (man 8 flyted, RECOVERY), or abandon the secrets, keeping the apps and "
    "their data: sudo flyted --new-identity"
)
_MAX_SEALED = 64 * 1024
_TIMEOUT_S = 60  # a TPM may take seconds
_MAX_CREDENTIAL = 1024


def read(environment: Mapping[str, str], state: Path = STATE) -> Identity:
    """Return the identity that systemd unsealed for this process.

    Raises ``HostFailure`` without systemd; ``StoreCorrupt``, with the way back, when there is no sealed identity that
    this machine can open: systemd then gives ``NONE``; and ``InvalidInput`` when the credential is no identity.
    """
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise HostFailure("there is no identity: flyted was not started by systemd", hint="systemctl start flyted")
    try:
        with (Path(directory) / CREDENTIAL).open("rb") as file:
            data = file.read(_MAX_CREDENTIAL)
    except OSError as error:
        raise HostFailure(
            f"systemd gave no identity ({CREDENTIAL}: {error.strerror})",
            hint="systemctl status flyted-setup; journalctl -u flyted-setup",
        ) from error
    if data == NONE:
        refused = sorted(path.name for path in state.glob(f"{REFUSED}*"))
        raise StoreCorrupt(unsealable(state / refused[0]) if refused else lost(state), hint=WAY_BACK)
    return Identity.parse(data.decode("ascii", "replace").strip())


def lost(state: Path) -> str:
    """Return the message for a machine that has secrets and no identity."""
    return f"there are secrets in {state}, but {SEALED} is gone: a new identity could not open them"


def unsealable(path: Path) -> str:
    """Return the message for a machine that cannot open its sealed identity."""
    return (
        f"this machine cannot open the key of its secrets, {path}: it was sealed on another machine, or the key in "
        "/var/lib/systemd/credential.secret (or the TPM) is not the one that it was sealed with"
    )


def setup(directory: Path) -> Identity:
    """Make an identity, seal it as ``directory``/identity.cred, which must not exist, and return it.

    Raises ``AlreadyExists`` when the file exists, ``HostFailure`` when the machine cannot seal, and ``StoreCorrupt``
    when there is a secret store whose identity is lost: a new one could not open it.
    """
    folder = PrivateDir.open(directory, forbidden=0o022)
    with contextlib.closing(folder), host_errors("no identity was created"):
        folder.sweep_staged()
        _check_none(directory)
        identity = Identity.generate()
        try:
            folder.write(SEALED, seal(identity))
            folder.sync()
        except OSError:
            folder.remove(SEALED)  # no secret needs it yet, and its public key was not shown
            raise
    return identity


def _check_none(directory: Path) -> None:
    """Raise as ``setup`` where there is an identity, or was one."""
    if os.path.lexists(directory / SEALED):
        raise AlreadyExists(f"{directory / SEALED} exists: this machine has an identity")
    if os.path.lexists(directory / "generation") or os.path.lexists(directory / SECRETS / MANIFEST):
        raise StoreCorrupt(lost(directory), hint=WAY_BACK)


def seal(identity: Identity) -> bytes:
    """Return the identity sealed, so that systemd opens it on this machine only, under our name only.

    Raises ``HostFailure`` when systemd cannot seal it, or does not give it back.
    """
    sealed = _creds("encrypt", identity.reveal().encode())
    if _creds("decrypt", sealed) != identity.reveal().encode():
        raise HostFailure("systemd-creds does not return the value that it sealed")
    return sealed


def unseal(sealed: bytes) -> Identity:
    """Return the identity that ``seal`` sealed.

    Raises ``HostFailure`` when systemd does not open it, ``InvalidInput`` when what it opens is no identity.
    """
    return Identity.parse(_creds("decrypt", sealed).decode("ascii", "replace").strip())


def keep_what_opens(directory: Path) -> bool:
    """Make sure that ``directory``/identity.cred opens on this machine, or is not there, and report whether it is.

    An identity that does not open is put aside as ``identity.refused``, and tried again at each call: a TPM may be
    back. Nothing is ever deleted. Raises ``HostFailure``.
    """
    folder = PrivateDir.open(directory, forbidden=0o022)
    with contextlib.closing(folder), host_errors("the identity was not checked"):
        names = folder.names()
        kept = [name for name in names if name.startswith(REFUSED)]
        for name in [SEALED, *kept] if SEALED in names else kept:
            if _opens(folder, name):
                if name != SEALED:
                    if SEALED in names:
                        folder.rename(SEALED, _free(names))
                    folder.rename(name, SEALED)
                    folder.sync()
                return True
        if SEALED in names:
            folder.rename(SEALED, _free(names))
            folder.sync()
    return False


def _opens(folder: PrivateDir, name: str) -> bool:
    try:
        unseal(folder.read(name, _MAX_SEALED) or b"")
    except FlytedError as error:
        say(f"{folder.path / name} does not open: {error.message}")
        return False
    return True


def _free(names: Sequence[str]) -> str:
    return next(n for n in (REFUSED, *(f"{REFUSED}.{i}" for i in range(2, 1000))) if n not in names)


def give_up(directory: Path) -> Path:
    """Put a store that this machine cannot open aside, with its identities, and make a new identity.

    Returns the folder in which the old store is now. Raises ``AlreadyExists`` when this machine can open it, ``Busy``
    while flyted uses it, ``HostFailure`` when the machine refuses.
    """
    if keep_what_opens(directory):
        raise AlreadyExists(
            "this machine opens its secrets: nothing is lost", hint="for a new key: sudo flytectl secret rotate"
        )
    folder = PrivateDir.open(directory, forbidden=0o022)
    with contextlib.closing(folder), host_errors("the secrets were not put aside"):
        names = folder.names()
        aside = next(name for name in (f"lost-{i}" for i in range(1, 1000)) if name not in names)
        with contextlib.closing(folder.private_child(SECRETS)) as secrets:
            secrets.lock()
            with contextlib.closing(folder.private_child(aside)) as to:
                for name in names:
                    if name in (SECRETS, "generation") or name.startswith(REFUSED):
                        folder.rename(name, name, to=to)
                to.sync()
        folder.sync()
    setup(directory)
    return directory / aside


def main() -> int:
    """Run ``flyted --setup``, and return the exit status.

    The status is 0 also when the store's identity is lost: flyted itself starts, and reports it to each client.
    Nothing secret is printed.
    """
    try:
        if keep_what_opens(STATE):
            return 0
        _check_none(STATE)
        recovery = recipients.read(recipients.PATH)  # before: a file that is refused leaves all to the next start
        identity = setup(STATE)
    except AlreadyExists as error:
        say(error.message)
        return 0
    except FlytedError as error:
        say(error.message + (f"\nhint: {error.hint}" if error.hint else ""))
        return 0 if isinstance(error, StoreCorrupt) else error.exit_status
    say(f"created this machine's identity; its public key is {identity.recipient}")
    if not recovery:
        say(f"no recovery key in {recipients.PATH}: if this machine is lost, so are its secrets")
    return 0


def new_identity() -> int:
    """Run ``flyted --new-identity``, which only an operator calls, and return the exit status."""
    try:
        aside = give_up(STATE)
    except FlytedError as error:
        say(f"flyted: {error.message}" + (f"\n  hint: {error.hint}" if error.hint else ""))
        return error.exit_status
    say(f"this machine has a new identity and an empty secret store; the previous store is in {aside},")
    say("where a recovery key still opens it: age -d -i operator.txt FILE")
    say("next: systemctl restart flyted; flytectl secret create KEY for each; flytectl ca install on each client")
    return 0


def _creds(verb: str, data: bytes) -> bytes:
    """Run ``systemd-creds`` from pipe to pipe (systemd-creds(1)): the secret is in no argument and no file.

    Raises ``HostFailure`` when it cannot run, fails, or takes too long.
    """
    key = ["--with-key=auto"] if verb == "encrypt" else []
    command = [_CREDS, verb, *key, f"--name={CREDENTIAL}", "-", "-"]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, timeout=_TIMEOUT_S, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostFailure(f"systemd-creds {verb} did not run: {error}") from None
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise HostFailure(f"systemd-creds {verb} failed: {reason}", hint="systemd-creds setup")
    return done.stdout


def say(text: str) -> None:
    """Write a line to stderr: into the journal, or onto an operator's terminal."""
    sys.stderr.write(f"{text}\n")
