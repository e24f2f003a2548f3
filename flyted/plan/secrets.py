"""Decides which unit may have which credential: the only question that the credential socket answers. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from flyted.acme.words import JOB
from flyted.contract.app import SecretUse
from flyted.contract.errors import PermissionRefused
from flyted.contract.gpu import Ask
from flyted.contract.names import AppKey, Replica, printable, replica_of
from flyted.plan.facts import StoredApp
from flyted.plan.gpus.lease import CREDENTIAL as GPU
from flyted.plan.ingress.config import SITE
from flyted.plan.ingress.ports import INGRESS_UNIT

SUMS = "sums"
_PAGE = 4096
_SECRET = re.compile(r"s([0-9]{1,3})")


@dataclass(frozen=True)
class OneSecret:
    """The value of one secret of an app."""

    app: AppKey
    use: SecretUse


@dataclass(frozen=True)
class Checksums:
    """Lengths and digests of all secrets of an app, so that launch notices a missing or truncated value."""

    app: AppKey
    uses: tuple[SecretUse, ...]


@dataclass(frozen=True)
class IngressCertificate:
    """The certificate and the key of the ingress."""


@dataclass(frozen=True)
class GpuLease:
    """A lease of GPUs. The answer comes when suitable devices are free, which may take a while."""

    app: AppKey
    replica: Replica
    ask: Ask


@dataclass(frozen=True)
class BuildGrant:
    """The secrets of one build, by credential. ``project`` and ``domain`` say where they are looked up."""

    project: str
    domain: str
    uses: Mapping[str, SecretUse]


@dataclass(frozen=True)
class BuildSecret:
    """The value of one secret of a build."""

    project: str
    domain: str
    use: SecretUse


@dataclass(frozen=True)
class AcmeJob:
    """What a unit that orders a certificate needs. ``unit``: its name."""

    unit: str


Grant = OneSecret | Checksums | IngressCertificate | GpuLease | BuildSecret | AcmeJob


def credential_id(number: int) -> str:
    """Return the credential id of the secret at place ``number`` in ``AppSpec.secrets``.

    The id is short because systemd limits the length of the peer's name, which contains it.
    """
    return f"s{number}"


def grant(
    unit: str, credential: str, apps: Sequence[StoredApp], builds: Mapping[str, BuildGrant] = MappingProxyType({}),
    orders: Collection[str] = (),
) -> Grant:  # fmt: skip
    """Return what systemd is to be given when it asks for a credential of a unit.

    ``builds``: the builds that run now, by the name of their unit. ``orders``: the units that order certificates now.
    Raises :class:`PermissionRefused` for a unit, or a credential of a unit, that flyted did not plan.
    """
    if unit == INGRESS_UNIT and credential == SITE:
        return IngressCertificate()
    if (build := builds.get(unit)) is not None and credential in build.uses:
        return BuildSecret(build.project, build.domain, build.uses[credential])
    if unit in orders and credential == JOB:
        return AcmeJob(unit)
    replica = replica_of(unit)
    app = next((a for a in apps if replica is not None and a.key.id == replica.app_id), None)
    revision = app.revision(replica.revision) if app is not None and replica is not None else None
    if app is None or revision is None or replica is None or not unit.endswith(".service"):
        raise PermissionRefused(f"unit {printable(unit)} belongs to no known app")
    uses = revision.spec.secrets
    if credential == GPU and revision.spec.gpu_count:
        return GpuLease(app.key, replica, revision.spec.gpu)
    if credential == SUMS and uses:
        return Checksums(app.key, uses)
    found = _SECRET.fullmatch(credential)
    if found is None or int(found[1]) >= len(uses) or credential != credential_id(int(found[1])):
        raise PermissionRefused(f"unit {printable(unit)} has no credential {printable(credential)}")
    return OneSecret(app.key, uses[int(found[1])])


def credential_bytes(size: int) -> int:
    """Return the bytes that a value of ``size`` bytes takes of the space for a unit's credentials.

    The space is a tmpfs, so a value takes whole pages. Measured on systemd 252 and 257: 255 pages of 4 KiB per unit
    arrive; with 256 the start fails with status 243.
    """
    return -(-size // _PAGE) * _PAGE


def sums(digests: Sequence[tuple[int, str]]) -> bytes:
    """Return the ``sums`` credential as JSON: id → [length in bytes, SHA-256 in hex] of each value.

    ``digests``: length and SHA-256 of each secret's value, in the order of ``AppSpec.secrets``.
    """
    content = {credential_id(n): list(digest) for n, digest in enumerate(digests)}
    return json.dumps(content, separators=(",", ":")).encode()
