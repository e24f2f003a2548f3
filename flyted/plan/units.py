"""AppSpec → the properties of an app's ``.socket`` and ``.service``. Pure; names as in org.freedesktop.systemd1(5).

The pair is transient and started in one call; equal stems bind the two. Time in microseconds where the property's
name ends in ``USec``, sizes in bytes.

Starts are counted by systemd, those by a request too, and at the limit the *socket* fails with the service: the
ingress then gets "connection refused" at once instead of a queue that nobody serves. That is wanted for an app that
dies at every start, so the limit stays; the daemon forgets the count (``ResetFailedUnit``) at each sleep, so that
waking is never mistaken for crashing. Triggers of the socket need no limit of their own below that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from flyted.contract.app import SHARED_MEMORY, AppSpec, SecretUse
from flyted.contract.names import WAY_OUT, Replica, network_of, state_name, user_of
from flyted.plan import command, knative
from flyted.plan.engines.shape import Shape, shape_of
from flyted.plan.gpu_lease import CREDENTIAL as GPU
from flyted.plan.sandbox import (
    GPU_SERVICES,
    RESOLVERS,
    RUN,
    STUB_RESOLVERS,
    Network,
    little_of_run,
    sandbox,
)
from flyted.plan.secrets import SUMS, credential_id
from flyted.plan.start import CREDENTIAL as START
from flyted.plan.start import start_document

Properties = dict[str, Any]

SLICE = "flyted-apps.slice"
SECRET_FILES = "/etc/flyte/secrets"  # noqa: S105  the only place that Flyte's SDK looks in
REVISION_FOLDER = "revision"
"""Below an app's cache: a folder that each unit has for itself."""
BACKLOG = 4096
EX_CONFIG = 78  # launch refuses to start: trying again changes nothing
START_S = 300  # a cold start may load a model
STOP_S = 30  # what launch needs to finish the requests in flight
STARTS, STARTS_IN_S = 3, 60  # a request that nobody accepts starts the app again and again: it waits for so many
LOG_INTERVAL_S, LOG_BURST = 30, 60_000
"""Above what launch lets an app print (launch/bound.py): for programs that write to the journal past it."""
TASKS_MAX = 2048
FILES_MAX = 65536
_SEC = 1_000_000
LANG = "C.UTF-8"


@dataclass(frozen=True)
class Layout:
    """Where things are on this machine, and whom the ingress runs as."""

    state: str = "/var/lib/flyted"
    run: str = "/run/flyted"
    launch: str = "/usr/lib/flyted/flyted/launch"
    resolver: str = "/usr/lib/flyted/resolv.conf"
    ingress_group: str = "haproxy"

    @property
    def apps(self) -> str:
        """The folder of the apps' sockets."""
        return f"{self.run}/apps"

    @property
    def starts(self) -> str:
        """The folder of what apps are told at their starts, for PID 1 to read."""
        return f"{self.run}/starts"

    def start_file(self, replica: Replica) -> str:
        """The replica's file in that folder."""
        return f"{self.starts}/{replica.service}"

    @property
    def credentials(self) -> str:
        """The socket on which flyted answers systemd's questions for credentials."""
        return f"{self.run}/credentials.sock"


@dataclass(frozen=True)
class UnitPair:
    """Both units of a replica, what each secret credential of the service stands for, and the one that is no secret.

    ``start``: the content of ``Layout.start_file``, which has to be there before the units are. Another content there
    belongs to units that were made otherwise.
    """

    socket: Properties
    service: Properties
    start: bytes
    credentials: dict[str, SecretUse | Literal["sums"]]


def app_units(
    spec: AppSpec,
    replica: Replica,
    *,
    image_path: str,
    python: str = "",
    image_env: Iterable[tuple[str, str]] = (),
    readable: Iterable[str] = (),
    nameservers: Iterable[str] = (),
    start_s: int = START_S,
    gpu_wait_s: int = 0,
    machine_bytes: int = 0,
    layout: Layout = Layout(),
) -> UnitPair:
    """The units of one replica.

    ``python``: the interpreter, by default the image's. ``image_env``: variables that the image's layers set; the
    app's own win. ``readable``: more paths that the app shall see although they lie where apps see nothing (below the
    state folder or /run). ``nameservers``: the host's. ``start_s``: how long it may take until it serves, once it
    has the GPUs that it asks for; it waits for those up to ``gpu_wait_s``. ``machine_bytes``: the machine's memory.
    """
    python = python or f"{image_path}/bin/python"
    credentials = credential_ids(spec.secrets)
    engine = shape_of(spec, f"/var/cache/{state_name(replica.app_id)}", machine_bytes)
    environment = _environment(spec, replica, image_path, [*image_env, *(engine.env if engine else ())])
    start_s = int(spec.start_timeout_s or start_s) + (gpu_wait_s if spec.gpu_count else 0)
    own_resolver = network_kind(spec) is Network.OWN and bool(set(nameservers) & set(STUB_RESOLVERS))
    run = little_of_run([*(() if own_resolver else RESOLVERS), *(GPU_SERVICES if spec.gpu_count else ())])
    service: Properties = {
        **_running(spec, [python, "-I", layout.launch, "--app", spec.key.name, "--start", START], start_s),
        **_identity(spec, replica),
        "Environment": [f"LANG={LANG}"],
        **_view(spec, replica, credentials, [image_path, *readable], run, layout),
        **_limits(spec),
        **sandbox(network_kind(spec), gpu=bool(spec.gpu_count)),
    }
    if spec.server_port:  # what leads requests to it, if it is not uvicorn, is drained before it is told to end
        argv = [python, "-I", layout.launch, "--drain"]
        service["ExecStopEx"] = [(argv[0], argv, ["no-env-expand"])]
    if network_kind(spec) is Network.OWN:
        # made beside it, and made again beside it: launch waits for the way out (launch/network.py), systemd does not
        service |= {"JoinsNamespaceOf": [network_of(replica)], "Wants": [network_of(replica), WAY_OUT]}
        if own_resolver:  # the machine's is on its loopback, which is not the app's
            service["BindReadOnlyPaths"] = [
                *service["BindReadOnlyPaths"], (layout.resolver, "/etc/resolv.conf", False, 0)
            ]  # fmt: skip
    names = [*credentials, *([GPU] if spec.gpu_count else [])]
    asked = [(name, layout.credentials) for name in names]
    service["LoadCredential"] = [(START, layout.start_file(replica)), *asked]
    socket = _socket(spec, replica, layout)
    words = _launch_options(spec, engine, credentials, layout)
    return UnitPair(socket, service, start_document(environment, words, [socket, service]), credentials)


def network_kind(spec: AppSpec) -> Network:
    """Which network an app is in: each in one of its own, with a way out or without."""
    return Network.OWN if spec.egress else Network.NONE


def credential_ids(secrets: Iterable[SecretUse]) -> dict[str, SecretUse | Literal["sums"]]:
    """The short ids under which a unit asks for its secrets; unit name and id share 84 bytes."""
    ids: dict[str, SecretUse | Literal["sums"]] = {credential_id(n): use for n, use in enumerate(secrets)}
    return {**ids, SUMS: "sums"} if ids else {}


def socket_path(replica: Replica, layout: Layout = Layout()) -> str:
    """Where a replica listens."""
    return f"{layout.apps}/{replica.server}.sock"


def _socket(spec: AppSpec, replica: Replica, layout: Layout) -> Properties:
    return {
        "Description": f"Flyte app {spec.key}, revision {replica.revision}: socket",
        "Listen": [("Stream", socket_path(replica, layout))],
        "SocketMode": 0o660,  # for the ingress alone: an app's own user cannot reach another app
        "SocketGroup": layout.ingress_group,
        "DirectoryMode": 0o750,
        "Backlog": BACKLOG,  # requests wait here while the app starts
        "RemoveOnStop": True,
        "CollectMode": "inactive-or-failed",
        "StartLimitIntervalUSec": 0,  # started by us alone
        "Slice": SLICE,
        # kept while the app sleeps, so that a wake finds it; and started again by whatever it was stopped
        **({"Upholds": [network_of(replica)]} if network_kind(spec) is Network.OWN else {}),
    }


def _running(spec: AppSpec, argv: list[str], start_s: int) -> Properties:
    wanted = {"Restart": "always", "RestartUSec": _SEC} if spec.min_replicas else {"Restart": "no"}
    return {
        "Type": "notify",
        "NotifyAccess": "main",
        "ExecStartEx": [(argv[0], argv, ["no-env-expand"])],
        "TimeoutStartUSec": start_s * _SEC,
        "TimeoutStopUSec": STOP_S * _SEC,
        "KillMode": "mixed",  # SIGTERM to launch, which drains; SIGKILL to all that is left
        # without a minimum nobody waits after a crash: the next request, or one that waits, starts the app
        **wanted,
        "RestartPreventExitStatus": ([EX_CONFIG], []),
        "StartLimitIntervalUSec": STARTS_IN_S * _SEC,
        "StartLimitBurst": STARTS,
        "CollectMode": "inactive-or-failed",
        "OOMPolicy": "kill",  # half an app is worse than none: the next start is clean
    }


def _launch_options(
    spec: AppSpec, engine: Shape | None, credentials: dict[str, SecretUse | Literal["sums"]], layout: Layout
) -> Iterable[str]:
    also = dict(engine.extra_secret_variables) if engine else {}
    if spec.bundle:
        yield from ("--bundle", bundle_path(spec.bundle, layout))
    yield from _port_options(spec, engine)
    if spec.engine_sleep:
        yield from ("--sleep", str(spec.engine_sleep))
    if spec.secret_in_argv:
        yield from ("--secret-in-argv", "yes")
    if network_kind(spec) is Network.OWN:
        yield from ("--way-out", "yes")
    for name, use in credentials.items():
        if use == "sums":
            yield from ("--sums", name)
        else:
            yield from ("--secret", f"{name}=env:{use.env}" if use.env else f"{name}=file:{use.file}")
            if use.env in also:
                yield from ("--secret", f"{name}=env:{also[use.env]}")
    if spec.gpu_count:
        yield from ("--gpu", GPU)
    yield from command.options(engine.command if engine else spec.command)


def _port_options(spec: AppSpec, engine: Shape | None) -> Iterable[str]:
    if spec.port:
        yield from ("--port", str(spec.port))
    if spec.server_port:
        yield from ("--server-port", str(spec.server_port))
    if spec.h2c:
        yield from ("--h2c", "yes")
    if spec.ready_path:
        yield from ("--ready", command.quote(spec.ready_path))
    if spec.port and engine and engine.health:
        yield from ("--health", engine.health)


def bundle_path(digest: str, layout: Layout = Layout()) -> str:
    """Where the code bundle with this SHA-256 is kept."""
    return f"{layout.state}/bundles/{digest}.tar.gz"


def _environment(
    spec: AppSpec, replica: Replica, image_path: str, image_env: Iterable[tuple[str, str]]
) -> dict[str, str]:
    state = state_name(replica.app_id)
    environment = {
        **dict(image_env),
        "PATH": dict(image_env).get("PATH", f"{image_path}/bin:/usr/local/bin:/usr/bin:/bin"),
        "HOME": f"/var/lib/{state}",
        "XDG_CACHE_HOME": f"/var/cache/{state}",  # model and compile caches survive a wake
        "LANG": LANG,
        "PYTHONUNBUFFERED": "1",
        "DO_NOT_TRACK": "1",
        "FLYTE_INTERNAL_EXECUTION_PROJECT": spec.key.project,  # what the SDK's runtime reads (flyte/_bin/serve.py)
        "FLYTE_INTERNAL_EXECUTION_DOMAIN": spec.key.domain,
        **knative.variables(spec.key, replica.revision, spec.port or spec.server_port or spec.container_port),
        **({"_F_SYS_PATH": spec.sys_path} if spec.sys_path else {}),
    }
    return environment | dict(spec.env)


def _identity(spec: AppSpec, replica: Replica) -> Properties:
    state = state_name(replica.app_id)
    return {
        "Description": f"Flyte app {spec.key}, revision {replica.revision}",
        "DynamicUser": True,
        "User": user_of(replica.app_id),  # one name per app, so two revisions side by side share their folders
        "StateDirectory": [state],
        "StateDirectoryMode": 0o700,
        "CacheDirectory": [state, f"{state}/{REVISION_FOLDER}"],
        "CacheDirectoryMode": 0o700,
        "Slice": SLICE,
        "SyslogIdentifier": spec.key.name,
        "LogRateLimitIntervalUSec": LOG_INTERVAL_S * _SEC,
        "LogRateLimitBurst": LOG_BURST,
        "LogExtraFields": [
            f"FLYTE_APP={spec.key.name}",
            f"FLYTE_PROJECT={spec.key.project}",
            f"FLYTE_DOMAIN={spec.key.domain}",
            f"FLYTE_REVISION={replica.revision}",
        ],
    }


def _view(
    spec: AppSpec,
    replica: Replica,
    credentials: dict[str, SecretUse | Literal["sums"]],
    paths: Iterable[str],
    run: Properties,
    layout: Layout,
) -> Properties:
    """What of the file tree it sees: of images and bundles only its own, of the daemon nothing, of /run ``run``."""
    shown = dict.fromkeys([*paths, *([bundle_path(spec.bundle, layout)] if spec.bundle else [])])
    hidden = (f"{layout.state}/", f"{RUN}/")
    binds = [*run["BindReadOnlyPaths"], *((path, path, False, 0) for path in shown if path.startswith(hidden))]
    binds += [
        (f"/run/credentials/{replica.service}/{name}", f"{SECRET_FILES}/{use.file}", False, 0)
        for name, use in credentials.items()
        if isinstance(use, SecretUse) and use.file
    ]
    # its own: seen by no other app, gone with the unit, counted in MemoryMax; the options after systemd's own win
    shared = (SHARED_MEMORY, f"mode=1777,size={spec.shm_bytes or spec.memory_bytes}")
    # the links in the working folder lead through it, each revision's to its own code (launch/workdir.py)
    revision = f"/var/cache/private/{state_name(replica.app_id)}/{REVISION_FOLDER}"
    empty = [*run["TemporaryFileSystem"], (layout.state, "ro"), shared, (revision, "mode=1777,size=1m")]
    if any(isinstance(use, SecretUse) and use.file for use in credentials.values()):
        empty.append((SECRET_FILES, "ro"))
    return {"TemporaryFileSystem": empty, "BindReadOnlyPaths": binds}


def _limits(spec: AppSpec) -> Properties:
    return {
        "MemoryMax": spec.memory_bytes,
        **({"MemorySwapMax": 0} if spec.secrets else {}),  # a secret in memory must not reach the disk
        **({"CPUQuotaPerSecUSec": round(spec.cpu_cores * _SEC)} if spec.cpu_cores else {}),
        "CPUWeight": 100,
        "TasksMax": TASKS_MAX,
        "LimitNOFILE": FILES_MAX,
        "LimitNOFILESoft": FILES_MAX,
        "OOMScoreAdjust": 200,  # before the ingress and the daemon
    }
