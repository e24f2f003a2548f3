"""Turns an AppSpec into the properties of its ``.socket`` and ``.service``. Pure.

Names are as in org.freedesktop.systemd1(5). The pair is transient and started in one call; equal stems bind the two.
Times are in microseconds where the property's name ends in ``USec``, sizes in bytes.

systemd counts starts, also those that a request causes. At the limit the *socket* fails with the service: the ingress
then gets "connection refused" instead of waiting in vain. That is wanted for an app that dies at
every start, so the limit stays. The daemon resets the count (``ResetFailedUnit``) at each sleep, so that waking is
never mistaken for crashing. The socket needs no trigger limit of its own below that.

Transient units, not unit files: there is nothing to clean up and no ``daemon-reload``. The price: they have to be
created again after a reboot. ``DynamicUser=`` has one stable name per app, because two revisions that run side by
side share the app's state folder: with different users, each would take the folder away from the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from zlib import crc32

from flyted.contract.app import SHARED_MEMORY, AppSpec, SecretUse
from flyted.contract.names import CALLS_ADDRESS, EGRESS_UNIT, Replica, network_of, set_by_systemd, state_name, user_of
from flyted.launch import words
from flyted.layers.words import PATH
from flyted.plan import calls, command, data_folder, knative, parameter_mounts, rooted, volumes
from flyted.plan.engines.shape import Shape, shape_of
from flyted.plan.facts import Platform, RootFact
from flyted.plan.gpus import driver
from flyted.plan.gpus.lease import CREDENTIAL as GPU
from flyted.plan.images import root_mount
from flyted.plan.layout import LAYOUT, Layout
from flyted.plan.sandbox import GPU_SERVICES, RESOLVERS, RUN, STUB_RESOLVERS, Network, little_of_run, sandbox
from flyted.plan.secrets import SUMS, credential_id
from flyted.plan.start import CREDENTIAL as START
from flyted.plan.start import start_document

Properties = dict[str, Any]

SLICE = "flyted-apps.slice"
SOCKET_SLICES = 32
"""systemd looks at all units of a slice when one starts or stops. Sockets need nothing that slices share out."""
START_S = 300  # a cold start may load a model
STOP_S = 30  # what launch needs to finish the requests in flight
STARTS, STARTS_IN_S = 3, 60  # a request that no start accepts causes another start; it waits for this many
LOG_INTERVAL_S, LOG_BURST = 30, 60_000
"""More than launch lets an app print (launch/bound.py): this limits programs that write to the journal directly."""
TASKS_MAX = 2048
FILES_MAX = 65536
_SEC = 1_000_000
PLATFORM = Platform()
LANG = "C.UTF-8"


@dataclass(frozen=True)
class UnitPair:
    """Both units of a replica, the meaning of each secret credential of the service, and its start document.

    ``start``: the content of ``Layout.start_file``, which must exist before the units do. A file with another content
    means that the existing units were made with other properties. ``mounts``: the unit that both require, by its name,
    if the image has a root of its own. ``hosts``: the content of ``Layout.hosts_file``, which has to exist as well; ""
    for an app that calls no other.
    """

    socket: Properties
    service: Properties
    start: bytes
    credentials: dict[str, SecretUse | Literal["sums"]]
    mounts: dict[str, Properties] = field(default_factory=dict)
    hosts: str = ""
    egress: bool = True


def app_units(
    spec: AppSpec,
    replica: Replica,
    *,
    image_path: str,
    python: str = "",
    image_env: Iterable[tuple[str, str]] = (),
    root: RootFact | None = None,
    platform: Platform = PLATFORM,
    readable: Iterable[str] = (),
    nameservers: Iterable[str] = (),
    hosts: str = "",
    start_s: int = START_S,
    gpu_wait_s: int = 0,
    machine_bytes: int = 0,
    layout: Layout = LAYOUT,
) -> UnitPair:
    """Return the units of one replica.

    ``python``: the interpreter, by default the image's. ``image_env``: variables that the image's layers set; the
    app's own win. ``root``: that of an image which has no folder ``image_path``. ``readable``: more paths to show to
    the app although they are where apps see nothing (below the state folder or /run). ``nameservers``: the host's.
    ``hosts``: the text of its /etc/hosts. ``start_s``: seconds within which the app must serve once it has its GPUs,
    for which it waits up to ``gpu_wait_s`` seconds. ``machine_bytes``: the machine's memory.

    Raises :class:`InvalidInput` if the start document is too large.
    """
    interpreter = rooted.interpreter(spec, root, platform) if root else [python or f"{image_path}/bin/python", "-I"]
    path = PATH if root else f"{image_path}/bin:/usr/local/bin:/usr/bin:/bin"
    credentials = credential_ids(spec.secrets)
    engine = shape_of(spec, f"/var/cache/{state_name(replica.app_id)}", machine_bytes)
    environment = _environment(spec, replica, path, [*image_env, *(engine.env if engine else ())])
    start_s = int(spec.start_timeout_s or start_s) + (gpu_wait_s if spec.gpu_count else 0)
    network = network_kind(spec)
    own_resolver = network is Network.OWN and bool(set(nameservers) & set(STUB_RESOLVERS))
    run = little_of_run([*(() if own_resolver else RESOLVERS), *(GPU_SERVICES if spec.gpu_count else ())])
    service: Properties = {
        **_running(spec, [*interpreter, layout.launch, words.APP, spec.key.name, words.START, START], start_s),
        **_identity(spec, replica),
        "Environment": [f"LANG={LANG}"],
        **_view(spec, replica, credentials, [] if root else [image_path, *readable], run, layout),
        **_limits(spec),
        **sandbox(network, gpu=bool(spec.gpu_count)),
    }
    if spec.server_port:  # without uvicorn a proxy leads requests to the app: drain it before the app gets SIGTERM
        argv = [*interpreter, layout.launch, words.DRAIN]
        service["ExecStopEx"] = [(argv[0], argv, ["no-env-expand"])]
    if network is not Network.NONE:
        # the network starts, and is made again, beside the app: launch waits for it (launch/network.py), not systemd
        service |= {"JoinsNamespaceOf": [network_of(replica)], "Wants": [network_of(replica), EGRESS_UNIT]}
        own = [(layout.hosts_file(replica), calls.HOSTS, False, 0)] if spec.calls else []
        if own_resolver:  # the machine's resolver is on the machine's loopback, which is not the app's
            own.append((layout.resolver, "/etc/resolv.conf", False, 0))
        service["BindReadOnlyPaths"] = [*service["BindReadOnlyPaths"], *own]
    asked = [(name, layout.credentials) for name in [*credentials, *([GPU] if spec.gpu_count else [])]]
    service = volumes.view(service | data_folder.view(replica, root, platform), spec, rooted=root is not None)
    service["LoadCredential"] = [(START, layout.start_file(replica)), *asked]
    socket, options = _socket(spec, replica, layout), [*_launch_options(spec, engine, credentials, layout)]
    service, socket, mounts = parameter_mounts.pair(service, socket, spec, replica, rooted=root is not None)
    if (root := volumes.uncovered(root, spec)) is not None:
        root = parameter_mounts.with_volumes(root, spec)
        mounts = {root_mount.unit(replica): root_mount.properties(replica, root.layers, platform.kernel)}
        environment = driver.environment(spec, environment)
        service, socket = rooted.in_root(service, spec, replica, root, layout.launch), socket | rooted.needs(replica)
        options = [*rooted.launch_options(root), *options]
    known = calls.hosts(spec.calls, hosts)
    start = start_document(environment, options, [socket, service, *mounts.values(), *([known] if known else [])])
    return UnitPair(socket, service, start, credentials, mounts, known, spec.egress)


def network_kind(spec: AppSpec) -> Network:
    """Return the kind of network that an app has: always one of its own, with egress or without."""
    if spec.egress:
        return Network.OWN
    return Network.APPS if spec.calls else Network.NONE


def credential_ids(secrets: Iterable[SecretUse]) -> dict[str, SecretUse | Literal["sums"]]:
    """Return the ids under which systemd asks for a unit's secrets, each with the secret that it stands for.

    The ids are short because the unit's name and the id share 84 bytes. ``sums`` is among them if there is a secret.
    """
    ids: dict[str, SecretUse | Literal["sums"]] = {credential_id(n): use for n, use in enumerate(secrets)}
    return {**ids, SUMS: "sums"} if ids else {}


def socket_path(replica: Replica, layout: Layout = LAYOUT) -> str:
    """Return the path of the socket on which a replica listens."""
    return f"{layout.apps}/{replica.server}.sock"


def _socket(spec: AppSpec, replica: Replica, layout: Layout) -> Properties:
    return {
        "Description": f"Flyte app {spec.key}, revision {replica.revision}: socket",
        "Listen": [("Stream", socket_path(replica, layout))],
        "SocketMode": 0o660,  # for the ingress alone: the user of one app cannot connect to another app
        "SocketGroup": layout.ingress_group,
        "DirectoryMode": 0o750,
        "Backlog": words.BACKLOG,  # requests wait here while the app starts
        "RemoveOnStop": True,
        "CollectMode": "inactive-or-failed",
        "StartLimitIntervalUSec": 0,  # only flyted starts it
        "Slice": f"flyted-sockets-{crc32(replica.app_id.encode()) % SOCKET_SLICES}.slice",
        # keeps the network while the app sleeps, so that a wake finds it, and starts it again whatever stopped it; the
        # router too: a network that came back while the router was still being stopped would not start it
        **({} if network_kind(spec) is Network.NONE else {"Upholds": [network_of(replica), EGRESS_UNIT]}),
    }


def _running(spec: AppSpec, argv: list[str], start_s: int) -> Properties:
    wanted = {"Restart": "always", "RestartUSec": _SEC} if spec.min_replicas else {"Restart": "no"}
    return {
        "Type": "notify",
        "NotifyAccess": "main",
        "ExecStartEx": [(argv[0], argv, ["no-env-expand"])],
        "TimeoutStartUSec": start_s * _SEC,
        "TimeoutStopUSec": STOP_S * _SEC,
        "KillMode": "mixed",  # SIGTERM to launch, which drains; SIGKILL to every process that is left
        # without a minimum of replicas a crashed app is not restarted: the next or a waiting request starts it
        **wanted,
        "RestartPreventExitStatus": ([words.EX_CONFIG], []),
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
        yield from (words.BUNDLE, bundle_path(spec.bundle, layout))
    yield from _port_options(spec, engine)
    if spec.engine_sleep:
        yield from (words.SLEEP, str(spec.engine_sleep))
    if spec.secret_in_argv:
        yield from (words.SECRET_IN_ARGV, words.YES)
    yield from _network_options(spec)
    for name, use in credentials.items():
        if use == "sums":
            yield from (words.SUMS, name)
        else:
            kind, target = (words.ENV, use.env) if use.env else (words.FILE, use.file)
            yield from (words.SECRET, f"{name}={kind}:{target}")
            if use.env in also:
                yield from (words.SECRET, f"{name}={words.ENV}:{also[use.env]}")
    if spec.gpu_count:
        yield from (words.GPU, GPU)
    yield from volumes.options(spec)
    yield from command.options(engine.command if engine else spec.command)


def _network_options(spec: AppSpec) -> Iterable[str]:
    if network_kind(spec) is Network.OWN:
        yield from (words.EGRESS, words.YES)
    if network_kind(spec) is Network.APPS:
        yield from (words.ONLY_CALLS, CALLS_ADDRESS)
    if spec.calls:
        yield from (words.CALLS, ",".join(spec.calls))


def _port_options(spec: AppSpec, engine: Shape | None) -> Iterable[str]:
    if spec.port:
        yield from (words.PORT, str(spec.port))
    if spec.server_port:
        yield from (words.SERVER_PORT, str(spec.server_port))
    if spec.h2c:
        yield from (words.H2C, words.YES)
    if spec.ready_path:
        yield from (words.READY, words.quote(spec.ready_path))
    if spec.port and engine and engine.health:
        yield from (words.HEALTH, engine.health)


def bundle_path(digest: str, layout: Layout = LAYOUT) -> str:
    """Return the path of the code bundle with this SHA-256."""
    return f"{layout.state}/bundles/{digest}.tar.gz"


def _environment(spec: AppSpec, replica: Replica, path: str, image_env: Sequence[tuple[str, str]]) -> dict[str, str]:
    state = state_name(replica.app_id)
    environment = {
        **{name: value for name, value in image_env if not set_by_systemd(name)},
        "PATH": dict(image_env).get("PATH", path),
        "HOME": f"/var/lib/{state}",
        "XDG_CACHE_HOME": f"/var/cache/{state}",  # model and compile caches survive a wake
        "LANG": LANG,
        "PYTHONUNBUFFERED": "1",
        "DO_NOT_TRACK": "1",
        "FLYTE_INTERNAL_EXECUTION_PROJECT": spec.key.project,  # the SDK's runtime reads it (flyte/_bin/serve.py)
        "FLYTE_INTERNAL_EXECUTION_DOMAIN": spec.key.domain,
        **knative.variables(spec.key, replica.revision, spec.port or spec.server_port or spec.container_port),
        **({"_F_SYS_PATH": spec.sys_path} if spec.sys_path else {}),
        **({words.ENDPOINTS: calls.ENDPOINTS} if spec.calls else {}),
    }
    return environment | dict(spec.env)


def _identity(spec: AppSpec, replica: Replica) -> Properties:
    state = state_name(replica.app_id)
    return {
        "Description": f"Flyte app {spec.key}, revision {replica.revision}",
        "DynamicUser": True,
        "User": user_of(replica.app_id),  # one name per app, so that two revisions side by side share their folders
        "StateDirectory": [state],
        "StateDirectoryMode": 0o700,
        "CacheDirectory": [state, f"{state}/{words.REVISION_FOLDER}"],
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
    """Return the properties that restrict which files the app sees.

    Of images and bundles it sees only its own, of the daemon's state nothing else, of /run only ``run``.
    """
    shown = dict.fromkeys([*paths, *([bundle_path(spec.bundle, layout)] if spec.bundle else [])])
    hidden = (f"{layout.state}/", f"{RUN}/")
    binds = [*run["BindReadOnlyPaths"], *((path, path, False, 0) for path in shown if path.startswith(hidden))]
    binds += [
        (f"/run/credentials/{replica.service}/{name}", f"{words.SECRET_FILES}/{use.file}", False, 0)
        for name, use in credentials.items()
        if isinstance(use, SecretUse) and use.file
    ]
    # private: no other app sees it, it ends with the unit and counts in MemoryMax; our options override systemd's
    shared = (SHARED_MEMORY, f"mode=1777,size={spec.shm_bytes or spec.memory_bytes}")
    # the links in the working folder lead through it: in each unit to the code of its revision (launch/workdir.py)
    revision = f"/var/cache/private/{state_name(replica.app_id)}/{words.REVISION_FOLDER}"
    empty = [*run["TemporaryFileSystem"], (layout.state, "ro"), shared, (revision, "mode=1777,size=1m")]
    if any(isinstance(use, SecretUse) and use.file for use in credentials.values()):
        empty.append((words.SECRET_FILES, "ro"))
    return {"TemporaryFileSystem": empty, "BindReadOnlyPaths": binds}


def _limits(spec: AppSpec) -> Properties:
    return {
        "MemoryMax": spec.memory_bytes,
        **({"MemorySwapMax": 0} if spec.secrets else {}),  # a secret in memory must not be swapped to the disk
        **({"CPUQuotaPerSecUSec": round(spec.cpu_cores * _SEC)} if spec.cpu_cores else {}),
        "CPUWeight": 100,
        "TasksMax": TASKS_MAX,
        "LimitNOFILE": FILES_MAX,
        "LimitNOFILESoft": FILES_MAX,
        "OOMScoreAdjust": 200,  # the kernel kills apps before the ingress and the daemon
    }
