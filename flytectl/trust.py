"""Makes this machine trust the local CA, and undoes it, in the system's bundle of update-ca-certificates(8).

curl, wget, Go and Debian's Python read that. Browsers do not: see browsers.py.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

from flyted.contract import authority
from flyted.contract.errors import HostFailure, ProtocolMismatch

ANCHOR = Path("/usr/local/share/ca-certificates/flyted.crt")
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def fingerprint(pem: str) -> str:
    """Return the SHA-256 of the one certificate in ``pem``, as ``AB:CD:…``.

    Raise :class:`ProtocolMismatch` if ``pem`` is not one certificate.
    """
    try:
        return authority.fingerprint(authority.der(pem))
    except ValueError as error:
        raise ProtocolMismatch("the daemon's CA certificate is not one PEM certificate") from error


def in_bundle(pem: str, bundle: Path = BUNDLE) -> bool:
    """Report whether the system's bundle contains this certificate."""
    try:
        trusted = bundle.read_text("ascii", errors="replace")
    except OSError:
        return False
    return "".join(pem.split()) in "".join(trusted.split())


def install_system(pem: str, anchor: Path = ANCHOR) -> None:
    """Add the certificate to the system's bundle, even if it is there already. Needs root.

    Raise :class:`HostFailure` if that fails.
    """
    try:
        anchor.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        part = anchor.with_name(f".{anchor.name}.part")
        part.write_text(pem.strip() + "\n", "ascii")
        part.chmod(0o644)
        part.replace(anchor)
    except OSError as error:
        raise HostFailure(f"cannot write {anchor}: {error.strerror}") from error
    _update()


def uninstall_system(anchor: Path = ANCHOR) -> bool:
    """Remove the certificate from the system's bundle; report whether it was there. Needs root.

    Raise :class:`HostFailure` if that fails.
    """
    aside = anchor.with_name(f".{anchor.name}.removed")  # update-ca-certificates reads *.crt
    try:
        anchor.replace(aside)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HostFailure(f"cannot remove {anchor}: {error.strerror}") from error
    try:
        _update("--fresh")  # without it the link in /etc/ssl/certs would stay
    except HostFailure:
        aside.replace(anchor)  # it is trusted still, so the next uninstall has to find it
        raise
    aside.unlink()
    return True


def _update(*options: str) -> None:
    try:
        done = subprocess.run(
            ["update-ca-certificates", *options], capture_output=True, text=True, check=False, env=root_environment()
        )
    except FileNotFoundError as error:
        raise HostFailure(
            "update-ca-certificates is not installed", hint="sudo apt install ca-certificates"
        ) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().split("\n")[-1]
        raise HostFailure(f"update-ca-certificates failed: {said}", hint="sudo update-ca-certificates --verbose")


def root_environment() -> dict[str, str]:
    """Return the environment of programs that root starts."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


def calling_user(environment: dict[str, str] | os._Environ[str]) -> pwd.struct_passwd | None:
    """Return the user behind sudo (SUDO_UID); ``None`` for root itself, which has no browser."""
    number = environment.get("SUDO_UID", "")
    if not (number.isascii() and number.isdigit()) or int(number) == 0:
        return None
    try:
        return pwd.getpwuid(int(number))
    except KeyError:
        return None
