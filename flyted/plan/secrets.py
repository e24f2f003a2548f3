"""Which unit may have which credential: the only question of the credential socket, answered with values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from flyted.contract.app import SecretUse
from flyted.contract.errors import PermissionRefused
from flyted.contract.gpu import Ask
from flyted.contract.names import AppKey, Replica, replica_of, shown
from flyted.plan.facts import StoredApp
from flyted.plan.gpu_lease import CREDENTIAL as GPU

INGRESS_UNIT = "flyted-ingress.service"
SITE = "site.pem"
SUMS = "sums"
_PAGE = 4096
_SECRET = re.compile(r"s([0-9]{1,3})")


@dataclass(frozen=True)
class OneSecret:
    """The value of one secret of an app."""

    app: AppKey
    use: SecretUse


@dataclass(frozen=True)
class Sums:
    """Lengths and digests of all secrets of an app, so that launch notices a missing or cut one."""

    app: AppKey
    uses: tuple[SecretUse, ...]


@dataclass(frozen=True)
class Site:
    """Certificate and key of the ingress."""


@dataclass(frozen=True)
class GpuLease:
    """A lease of GPUs, when there are some: the answer may take its time."""

    app: AppKey
    replica: Replica
    ask: Ask


@dataclass(frozen=True)
class BuildGrant:
    """The secrets of one build, by credential; ``project`` and ``domain`` say where they are looked for."""

    project: str
    domain: str
    uses: Mapping[str, SecretUse]


@dataclass(frozen=True)
class BuildSecret:
    """The value of one secret of a build."""

    project: str
    domain: str
    use: SecretUse


Grant = OneSecret | Sums | Site | GpuLease | BuildSecret


def credential_id(number: int) -> str:
    """The id of an app's secret by its place in ``AppSpec.secrets``: short, for systemd's limit on the peer's name."""
    return f"s{number}"


def grant(
    unit: str, credential: str, apps: Sequence[StoredApp], builds: Mapping[str, BuildGrant] = MappingProxyType({})
) -> Grant:
    """What a unit that asks for a credential gets; ``builds`` are those that run now, by the name of their unit.

    Raises :class:`PermissionRefused` for all that we did not plan.
    """
    if unit == INGRESS_UNIT and credential == SITE:
        return Site()
    if (build := builds.get(unit)) is not None and credential in build.uses:
        return BuildSecret(build.project, build.domain, build.uses[credential])
    replica = replica_of(unit)
    app = next((a for a in apps if replica is not None and a.key.id == replica.app_id), None)
    revision = app.revision(replica.revision) if app is not None and replica is not None else None
    if app is None or revision is None or replica is None or not unit.endswith(".service"):
        raise PermissionRefused(f"unit {shown(unit)} is not one of an app that is known")
    uses = revision.spec.secrets
    if credential == GPU and revision.spec.gpu_count:
        return GpuLease(app.key, replica, revision.spec.gpu)
    if credential == SUMS and uses:
        return Sums(app.key, uses)
    found = _SECRET.fullmatch(credential)
    if found is None or int(found[1]) >= len(uses) or credential != credential_id(int(found[1])):
        raise PermissionRefused(f"unit {shown(unit)} has no credential {shown(credential)}")
    return OneSecret(app.key, uses[int(found[1])])


def room(size: int) -> int:
    """What a value of ``size`` bytes takes of the room for a unit's credentials: whole pages of a tmpfs.

    Measured on systemd 252 and 257: 255 pages of 4 KiB per unit arrive, 256 fail the start with status 243.
    """
    return -(-size // _PAGE) * _PAGE


def sums(digests: Sequence[tuple[int, str]]) -> bytes:
    """The content of the ``sums`` credential, as JSON: id → [length in bytes, SHA-256 in hex] of each value."""
    content = {credential_id(n): list(digest) for n, digest in enumerate(digests)}
    return json.dumps(content, separators=(",", ":")).encode()
