"""The machine's identity: made once, kept only sealed by ``systemd-creds``, given back by systemd at each start.

``flyted-setup.service`` calls ``main`` before the first start of ``flyted.service``, which then reads the identity
from its credentials (``LoadCredentialEncrypted=flyted-identity:…``). In the clear it is only in those two processes,
in the pipe between setup and ``systemd-creds``, and in memory that systemd never swaps.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flyted.contract.errors import AlreadyExists, FlytedError, HostFailure
from flyted.host import recipients
from flyted.host.age import Identity
from flyted.host.ledger import host_errors
from flyted.host.private_dir import PrivateDir

if TYPE_CHECKING:
    from collections.abc import Mapping

CREDENTIAL = "flyted-identity"
"""Bound inside the sealed file: systemd refuses it under any other name."""
SEALED = "identity.cred"
STATE = Path("/var/lib/flyted")
_CREDS = "/usr/bin/systemd-creds"
_TIMEOUT_S = 60  # a TPM may take seconds
_MAX_CREDENTIAL = 1024


def read(environment: Mapping[str, str]) -> Identity:
    """The identity that systemd unsealed for this process. Raises ``HostFailure``."""
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
    return Identity.parse(data.decode("ascii", "replace").strip())


def setup(directory: Path) -> Identity:
    """Makes an identity and seals it as ``directory``/identity.cred, which must not exist.

    Raises ``AlreadyExists`` when it does, and ``HostFailure`` when the machine cannot seal, or when there is a
    secret store whose identity is lost: a new one could not open it.
    """
    folder = PrivateDir.open(directory, forbidden=0o022)
    with contextlib.closing(folder), host_errors("no identity was made"):
        folder.sweep_staged()
        names = folder.names()
        if SEALED in names:
            raise AlreadyExists(f"{directory / SEALED} exists: this machine has an identity")
        if "generation" in names or (directory / "secrets" / "manifest").exists():
            raise HostFailure(
                f"there are secrets in {directory}, but {SEALED} is gone: a new identity could not open them",
                hint=f"restore {SEALED} from a backup, or move {directory}/secrets and {directory}/generation away",
            )
        identity = Identity.generate()
        folder.write(SEALED, seal(identity))
        folder.sync()
    return identity


def seal(identity: Identity) -> bytes:
    """What systemd opens again on this machine only, under our name only. Raises ``HostFailure``."""
    sealed = _creds("encrypt", identity.reveal().encode())
    if _creds("decrypt", sealed) != identity.reveal().encode():
        raise HostFailure("systemd-creds does not give back what it sealed")
    return sealed


def unseal(sealed: bytes) -> Identity:
    """Undoes ``seal``. Raises ``HostFailure``, ``InvalidInput``."""
    return Identity.parse(_creds("decrypt", sealed).decode("ascii", "replace").strip())


def main() -> int:
    """``flyted --setup``; gives the exit status. Nothing secret is printed."""
    try:
        identity = setup(STATE)
        recovery = recipients.read(recipients.PATH)
    except AlreadyExists as error:
        say(error.message)
        return 0
    except FlytedError as error:
        say(error.message + (f"\nhint: {error.hint}" if error.hint else ""))
        return error.exit_status
    say(f"made this machine's identity; its public key is {identity.recipient}")
    if not recovery:
        say(f"no recovery key in {recipients.PATH}: if this machine is lost, so are its secrets")
    return 0


def _creds(verb: str, data: bytes) -> bytes:
    """``systemd-creds`` from pipe to pipe (systemd-creds(1)): the secret is in no argument and no file."""
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
    """A line for the journal."""
    sys.stderr.write(f"{text}\n")
