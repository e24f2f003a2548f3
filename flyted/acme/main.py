"""Has lego order one certificate and prints it, or has lego revoke one. lego gets no key but the account's.

Another option has it tell where a name leads, in a unit that has no key at all (record.py).

The certificate's key never comes here: flyted makes it, and the job has a signing request. HTTP-01 is answered by the
ingress, which needs the account's key alone for that (RFC 8555 8.3), so that the file that lego writes is for nobody.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from . import record, words
from .words import EX_CONFIG, EX_NOLEGO, EX_NORECORD, EX_REFUSED, EX_SOFTWARE, OURS

LEGO = "/usr/bin/lego"
FOLDER = Path(words.FOLDER)
_KEY_COMPROMISE = "1"  # RFC 5280 5.3.1
_SHORTEST_SECRET = 4
_LINE = 3000  # flyted reads lines of up to 4096 bytes


@dataclass(frozen=True)
class Job:
    """What flyted asks for: the fields are those of the credential (words.py)."""

    server: str
    server_ca: str
    email: str
    account: str
    name: str
    request: str
    revoke: str
    dns: str
    variables: dict[str, str]


class Failed(Exception):
    """The error that ends a job: ``str()`` is the line to show, ``status`` the exit status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def main() -> int:
    """Carry out the job, and return the exit status."""
    try:
        if sys.argv[1:2] == [words.RECORD]:
            return record.main(sys.argv[2])
        check_memory(FOLDER, Path("/proc/self/mounts").read_text())
        chain = carry_out(read_job(), FOLDER)
    except Failed as failure:
        say(str(failure))
        return failure.status
    except Exception as error:  # noqa: BLE001  a fault of ours, or a case that nobody thought of
        say(f"internal error in flyted: {type(error).__name__}: {ascii(str(error))[1:-1]}")
        return EX_SOFTWARE
    text = base64.b64encode(chain).decode()
    for at in range(0, len(text), _LINE):
        say(words.CERTIFICATE + text[at : at + _LINE])
    return 0


def check_memory(folder: Path, mounts: str) -> None:
    """Raise :class:`Failed` unless a folder is in memory: keys are written there. ``mounts``: as of proc(5)."""
    kinds = [kind for _what, place, kind, *_more in map(str.split, mounts.splitlines()) if place == str(folder)]
    if kinds[-1:] != ["tmpfs"]:
        raise Failed(EX_CONFIG, f"{folder} is not in memory")


def read_job() -> Job:
    """Return the job. Raises :class:`Failed`."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    try:
        return Job(**json.loads((Path(folder) / words.JOB).read_bytes()))
    except (OSError, ValueError) as error:
        raise Failed(EX_CONFIG, "there is no job: only units of flyted run this program") from error
    except TypeError as error:
        raise Failed(EX_CONFIG, "the job is not as expected") from error


def carry_out(job: Job, folder: Path, lego: str = LEGO) -> bytes:
    """Return the certificate that was ordered and its chain, as PEM; nothing if one was revoked.

    Raises :class:`Failed`; lego says more before that.
    """
    if not Path(lego).exists():
        raise Failed(EX_NOLEGO, "lego is not installed")
    return revoke(job, folder, lego) if job.revoke else order(job, folder, lego)


def revoke(job: Job, folder: Path, lego: str) -> bytes:
    """Revoke a certificate. Raises :class:`Failed`.

    lego asks the authority for the account of the key, if its file does not say which it is. Source: lego 4.9,
    cmd/accounts_storage.go (LoadAccount).
    """
    own = account(job, folder)
    (own / "account.json").write_text(json.dumps({"email": job.email, "registration": None}))
    certificates = folder / "certificates"
    certificates.mkdir()
    (certificates / f"{job.name.replace('*', '_')}.crt").write_text(job.revoke)
    options = ["--domains", job.name, "revoke", "--keep", "--reason", _KEY_COMPROMISE]
    run([lego, *common(job, folder), *options], environment(job, folder), [])
    return b""


def order(job: Job, folder: Path, lego: str) -> bytes:
    """Return the certificate and its chain, as PEM. Raises :class:`Failed`."""
    if not job.dns:
        check_record(job.name)
    run([lego, *arguments(job, folder), "run"], environment(job, folder), list(job.variables.values()))
    found = [path for path in (folder / "certificates").glob("*.crt") if not path.name.endswith(".issuer.crt")]
    if len(found) != 1:
        raise Failed(EX_REFUSED, "lego ended without a certificate")
    return found[0].read_bytes()


def account(job: Job, folder: Path) -> Path:
    """Write the account's key where lego looks for it, and return the account's folder."""
    own = folder / "accounts" / urlsplit(job.server).netloc.replace(":", "_") / job.email
    (own / "keys").mkdir(parents=True, mode=0o700)
    (own / "keys" / f"{job.email}.key").write_text(job.account)
    return own


def common(job: Job, folder: Path) -> list[str]:
    """Return the options of each of lego's commands."""
    return ["--accept-tos", "--path", str(folder), "--server", job.server, "--email", job.email]


def arguments(job: Job, folder: Path) -> list[str]:
    """Write what lego reads for an order, and return its options."""
    account(job, folder)
    request = folder / "request.pem"
    request.write_text(job.request)
    options = [*common(job, folder), "--csr", str(request)]
    if not job.dns:
        (folder / "webroot").mkdir()
        return [*options, "--http", "--http.webroot", str(folder / "webroot")]
    resolvers = job.variables.get(words.PROPAGATION, "").split(",")
    servers = [word for each in resolvers if each for word in ("--dns.resolvers", each)]
    unchecked = ["--dns.disable-cp"] if job.variables.get(words.UNCHECKED) else []
    return [*options, "--dns", job.dns, *servers, *unchecked]


def environment(job: Job, folder: Path) -> dict[str, str]:
    """Return lego's environment; the provider's variables are readable by this unit alone."""
    kept = [key for key in os.environ if key in ("PATH", "LANG") or key.lower().endswith("_proxy")]
    found = {**{key: os.environ[key] for key in kept}, **job.variables}
    for name in words.OWN_VARIABLES:
        found.pop(name, None)
    if job.server_ca:
        trusted = folder / "server_ca.pem"
        trusted.write_text(job.server_ca)
        found["LEGO_CA_CERTIFICATES"] = str(trusted)
    return found


def check_record(name: str) -> None:
    """Raise :class:`Failed` for a name without an address: the authority counts each try that fails."""
    try:
        record.addresses(name)
    except record.NoRecord as error:
        raise Failed(EX_NORECORD, f"{name} has no DNS record") from error
    except OSError:
        pass  # the resolver does not answer; the authority asks another one


def run(command: list[str], environment: Mapping[str, str], secrets: list[str]) -> None:
    """Run lego, and pass on what it prints, without values of the provider's. Raises :class:`Failed`."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(environment),
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            os.write(1, masked(line.decode(errors="replace"), secrets).encode())
    if process.returncode:
        raise Failed(EX_REFUSED, f"lego ended with status {process.returncode}")


def masked(text: str, secrets: list[str]) -> str:
    """Return a text with stars in place of each secret value."""
    for value in sorted(filter(lambda each: len(each) >= _SHORTEST_SECRET, secrets), key=len, reverse=True):
        text = text.replace(value, "***")
    return text


def say(text: str) -> None:
    """Print one line of ours."""
    os.write(1, f"{OURS}{text}\n".encode(errors="backslashreplace"))
