"""The actions that the planner may ask for: the whole list of what the root daemon does by itself. Pure.

``daemon/execute.py`` carries them out, and nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass

from flyted.contract.names import Replica
from flyted.plan.idle import Traffic


@dataclass(frozen=True)
class StartPair:
    """Make the transient ``.socket`` + ``.service`` pair; the socket listens, the service waits for a request."""

    replica: Replica


@dataclass(frozen=True)
class RenewPair:
    """Re-create a sleeping pair that another version of flyted, or other settings, would define differently."""

    replica: Replica


@dataclass(frozen=True)
class StartService:
    """Start the service of a pair whose socket listens, without a request: for apps with a minimum of 1 replica."""

    replica: Replica


@dataclass(frozen=True)
class Sleep:
    """Stop the service; the socket stays and the next request wakes the app.

    ``seen``: the app's counters when it was found idle: if a request has come since, it is left alone. ``None``: stop
    it in any case, on a user's request.
    """

    replica: Replica
    seen: Traffic | None = None


@dataclass(frozen=True)
class Freeze:
    """Freeze the processes of an idle app until its next request. If they do not freeze, stop the app.

    ``seen``: the app's counters when it was found idle: if a request has come since, it is thawed at once.
    """

    replica: Replica
    seen: Traffic


@dataclass(frozen=True)
class Thaw:
    """Thaw an app that is frozen although the ingress has requests in flight to it."""

    replica: Replica


@dataclass(frozen=True)
class EngineSleep:
    """Put a service's engine to sleep without ending it; the next request wakes it. If it does not sleep, stop it."""

    replica: Replica


@dataclass(frozen=True)
class Evict:
    """Put an idle app to sleep because another needs its GPU, unless a request has come since.

    ``wanted_by``: the unit that waits for the GPU. ``seen``: the app's counters when it was found idle.
    """

    replica: Replica
    wanted_by: str
    seen: Traffic


@dataclass(frozen=True)
class StopPair:
    """Stop and forget both units of a replica that no request can reach any more."""

    replica: Replica


@dataclass(frozen=True)
class FailPair:
    """Stop and forget both units of a replica that cannot run now; it is tried again later. ``reason``: for people."""

    replica: Replica
    reason: str


@dataclass(frozen=True)
class KillUnit:
    """Send SIGKILL to all processes that are left of a unit, whatever else is done to it.

    ``reason``: for people, what it did: "does not stop".
    """

    unit: str
    reason: str


@dataclass(frozen=True)
class OpenDevices:
    """Open exactly these device nodes (path, and "r", "w" or "rw") to the processes of a unit that start from now."""

    unit: str
    nodes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ShowDriver:
    """Make the folder for apps in root images contain exactly these links (path, target) to NVIDIA's driver."""

    links: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class RestartIngress:
    """Restart HAProxy with the current files: it runs with other rules, which it reads only at its start."""


@dataclass(frozen=True)
class ListenIngress:
    """Make PID 1 listen for the ingress, whose start waits for its socket."""


@dataclass(frozen=True)
class BuildImage:
    """Build the image of this hash, which a caller waits for."""

    digest: str


@dataclass(frozen=True)
class PullImage:
    """Run the unit of this name, which pulls a container image or finds out which one a name stands for."""

    unit: str


@dataclass(frozen=True)
class MakeLayer:
    """Build the layer of this id, which a caller waits for."""

    layer: str


@dataclass(frozen=True)
class RemoveImages:
    """Delete images and layers that no app uses, and record since when (seconds since 1970) others are unused."""

    images: tuple[str, ...]
    unused_since: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class CheckTokens:
    """Delete tokens that ended long ago, update the ingress's table, and record which tokens were used."""


@dataclass(frozen=True)
class RenewCertificate:
    """Give the ingress another certificate, or, after the daemon's start, its first one."""


@dataclass(frozen=True)
class OrderCertificate:
    """Order a certificate for this host name from its site's ACME authority."""

    name: str


@dataclass(frozen=True)
class RevokeCertificate:
    """Have the authority revoke the certificate with this fingerprint."""

    fingerprint: str


@dataclass(frozen=True)
class ApplyCertificates:
    """Give the ingress the certificates that there are for the apps that there are now."""


IdleAction = Sleep | Freeze | Thaw | EngineSleep | Evict
"""The actions on apps that no request needs now."""
PairAction = StartPair | RenewPair | StartService | IdleAction | StopPair | FailPair
"""The actions that take time: one at a time on a pair."""
STARTS = (StartPair, RenewPair, StartService)
"""The actions that bring a pair up: where one of them fails, so has the pair."""
UnitAction = KillUnit | OpenDevices | ShowDriver
"""The actions that take no time."""
IngressAction = RestartIngress | ListenIngress
"""The actions that follow once the ingress's files are written."""
BuildAction = BuildImage | PullImage | MakeLayer
"""The actions with waiting callers. One may wait for others: an image for its layers."""
UpkeepAction = (
    BuildAction | RemoveImages | CheckTokens | RenewCertificate | OrderCertificate | RevokeCertificate
    | ApplyCertificates
)  # fmt: skip
"""The actions that belong to no single app, and take time: each once at a time."""
Action = PairAction | UnitAction | IngressAction | UpkeepAction
