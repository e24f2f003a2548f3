"""AppSpec: the one plain-data description of an app.

flytectl and the gateway both make it from Flyte's App IDL (``contract/idl.py``). It holds no secret value and nothing
callable. It is checked when it is made, so code that holds an AppSpec need not check it again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field, fields
from typing import Any

from flyted.contract import volumes
from flyted.contract.bundles import checked, of_image
from flyted.contract.errors import InvalidInput
from flyted.contract.gpu import Ask
from flyted.contract.names import AppKey, base_domain, env_name, label, printable, secret_file, secret_key
from flyted.contract.quantity import BYTES, CORES, CORES_HINT, SIZE_HINT
from flyted.contract.scaling import check as check_scaling
from flyted.contract.texts import plain_text, text_for_a_program
from flyted.contract.volumes import VolumeUse

DEFAULT_SCALEDOWN_S = 300.0
MIN_RATE, MAX_RATE = 0.1, 100_000  # requests a second
DEFAULT_PORT = 8080  # flyte/app/_app_environment.py
DEFAULT_MEMORY_BYTES = 2 << 30  # for an app that names no memory: a bound, so that no app can take the machine
DEFAULT_CPU_CORES = 0.0  # the app asks for no CPU: no quota, a fair share by weight
SHARED_MEMORY = "/dev/shm"  # noqa: S108  not a temporary file: programs look for POSIX shared memory here
MAX_SECRETS = 64
MAX_ENV = 256
MAX_ARGS = 256
MAX_LAYERS = 64
MAX_OPEN_PATHS = 64
MAX_CALLS = 64
MAX_UNMET = 32
MAX_START_S = 7200
IDLE = ("freeze", "stop")

RESERVED_PORTS = frozenset({8012, 8022, 8112, 9090, 9091})
"""Ports that Flyte keeps for itself (flyte/app/_types.py: INVALID_APP_PORTS)."""

# characters that systemd interprets in a unit's command or environment, and the colon, which separates PATH's folders
_CHANGED_IN_PATH = re.compile("[$;%:\\\\\"'`]")
OPEN_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
"""The form of a path that can be opened without a key: narrow, so that every server reads it in the same way."""
_NO_TARGET = re.compile(r"[^!-~]|#")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_RANGES: dict[str, tuple[float, float, str]] = {
    "cpu_cores": (*CORES, CORES_HINT),
    "memory_bytes": (*BYTES, SIZE_HINT),
    "disk_bytes": (*BYTES, SIZE_HINT),
    "shm_bytes": (*BYTES, SIZE_HINT),
    "engine_sleep": (1, 2, "give --idle sleep or sleep:2"),
}
"""Number → least, most, and what to type. The other numbers of an AppSpec have checks of their own."""
_NONE_IS_ZERO = frozenset(_RANGES) - {"memory_bytes"}


@dataclass(frozen=True)
class SecretUse:
    """One secret of an app, given as a variable (``env``) or as a file in /etc/flyte/secrets (``file``).

    ``key`` is the secret's name in the store, ``KEY`` or ``GROUP/KEY``.
    """

    key: str
    env: str = ""
    file: str = ""

    def __post_init__(self) -> None:
        """Check the names.

        Raise :class:`InvalidInput` for a bad name, and unless exactly one of ``env`` and ``file`` is set.
        """
        secret_key(self.key)
        if bool(self.env) == bool(self.file):
            raise InvalidInput(f"secret '{self.key}' must be either a variable or a file")
        if self.env:
            env_name(self.env)
        else:
            secret_file(self.file)


@dataclass(frozen=True)
class AppSpec:
    """The description of an app to run. Sizes are in bytes, times in seconds, CPU in cores (0: no limit)."""

    key: AppKey
    command: tuple[str, ...]  # container.command + container.args of Flyte's IDL
    image: dict[str, Any]  # Flyte's ImageSpec in protobuf-JSON as "spec", with "files" and "folders": plan/images
    bundle: str = ""  # SHA-256 of the code bundle; "": the app has none
    env: tuple[tuple[str, str], ...] = ()
    sys_path: str = ""  # Flyte's _F_SYS_PATH: folders of the bundle, relative
    secrets: tuple[SecretUse, ...] = ()
    min_replicas: int = 0
    max_replicas: int = 1
    concurrency: int = 0  # the requests at once that one replica is for; 0: they do not decide how many there are
    request_rate: int = 0  # likewise the requests a second; if both are 0, the CPU time of its units decides
    sticky: bool = False  # the ingress sends a browser to the same replica again
    scaledown_after_s: float = DEFAULT_SCALEDOWN_S
    request_timeout_s: float = 0.0  # 0: the ingress's own default
    requests_per_s: float = 0.0  # what one client may ask of it, on average; 0: the setting of flyted.toml
    cpu_cores: float = DEFAULT_CPU_CORES
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    disk_bytes: int = 0  # room for its state and cache folders: checked when the app is served, not a limit afterwards
    shm_bytes: int = 0  # size of its /dev/shm; 0: as large as its memory
    gpu_count: int = 0
    gpu_name: str = ""  # words of the product's name; "": any product
    gpu_partition: str = ""  # a MIG slice such as 1g.5gb; "": whole GPUs
    python_env: str = ""  # an existing environment instead of an image
    egress: bool = True
    container_port: int = DEFAULT_PORT  # the port that the file names, even if nothing opens it: the variable PORT
    port: int = 0  # the TCP port that its program opens, in the app's network; 0: it serves on the inherited socket
    server_port: int = 0  # the TCP port that a server function may open if it does not run uvicorn; 0: none
    h2c: bool = False  # that port speaks HTTP/2 without TLS, as gRPC does, and nothing else
    ready_path: str = ""  # the path that must answer before the app gets requests; "": any answer will do
    start_timeout_s: float = 0.0  # the longest that a start may take; 0: the setting of flyted.toml
    entrypoint: bool = False  # the image's ENTRYPOINT is run: ``command`` is in the place of its CMD, if there is one
    secret_in_argv: bool = False  # allow a secret among the program's arguments, which every user can read
    requires_auth: bool = False  # the ingress asks for a token; the default is for specs stored before this field
    subdomain: str = ""  # a label by which it is served too, below each base domain
    custom_domain: str = ""  # a host name at which it is served too, if certificates are ordered from an authority
    open_paths: tuple[str, ...] = ()  # paths to open beyond those that its own key guards (plan/engines); "/": all
    calls: tuple[str, ...] = ()  # names of the apps, of its project and domain, that it may call
    engine_sleep: int = 0  # sleep level of its engine when idle; 0: see ``idle`` (plan/engines/check.py)
    idle: str = ""  # what it does when idle, without engine_sleep: one of IDLE; "": the setting of flyted.toml
    models: tuple[tuple[str, str], ...] = ()  # (name, folder of this machine); only flyted sets it
    volumes: tuple[VolumeUse, ...] = ()  # folders of the operator that it sees
    type: str = ""
    description: str = ""
    links: tuple[tuple[str, str], ...] = field(default=())  # (title, path)
    unmet: tuple[str, ...] = ()  # what the file asks for and does not get here, in words; shown when it is served

    def __post_init__(self) -> None:
        """Raise :class:`InvalidInput` unless every field is valid; fields of our own classes check themselves."""
        if not (self.command or self.entrypoint) or len(self.command) > MAX_ARGS:
            raise InvalidInput(f"app '{self.key}' needs a command of 1 to {MAX_ARGS} words")
        for word in self.command:
            text_for_a_program(word, f"an argument of app '{self.key}'")
        if self.bundle and _SHA256.fullmatch(self.bundle) is None:
            raise InvalidInput(f"the code bundle of app '{self.key}' has no valid digest")
        checked(list(self.bundles))
        self._check_environment()
        if not 1.0 <= self.scaledown_after_s <= 30 * 86400:
            raise InvalidInput(
                f"app '{self.key}': scaledown_after must be 1 s to 30 days", hint="see flyte.app.Scaling"
            )
        if self.request_timeout_s and not 0.001 <= self.request_timeout_s <= 3600:
            raise InvalidInput(f"app '{self.key}': a request timeout must be 1 ms to 1 hour")
        check_scaling(self.key, self.min_replicas, self.max_replicas, self.concurrency, self.request_rate)
        self._check_ranges()
        self._check_python_env()
        Ask(self.gpu_count, self.gpu_name, self.gpu_partition)  # its constructor checks it
        if self.subdomain:
            label(self.subdomain, "subdomain")
        if self.custom_domain:
            base_domain(self.custom_domain)
        self._check_port()
        self._check_open_paths()
        self._check_calls()
        self._check_start()
        self._check_rate()
        self._check_idle()
        volumes.check(self.volumes, str(self.key))
        for text in (
            self.python_env,
            self.type,
            self.description,
            self.sys_path,
            *(t for link in self.links for t in link),
            *(t for model in self.models for t in model),
            *self.unmet,
        ):
            plain_text(text, f"a text of app '{self.key}'", limit=1024)

    def _check_ranges(self) -> None:
        for name, (least, most, hint) in _RANGES.items():
            value = getattr(self, name)
            if not (least <= value <= most or (value == 0 and name in _NONE_IS_ZERO)):  # NaN is in no range
                raise InvalidInput(f"app '{self.key}': {name} {printable(value)} is out of range", hint=hint)

    def _check_port(self) -> None:
        if self.h2c and not (self.port or self.server_port):
            raise InvalidInput(
                f"app '{self.key}': HTTP/2 (h2c) needs an app that opens a port", hint='name the port "http1"'
            )
        if self.port in RESERVED_PORTS:
            raise InvalidInput(
                f"app '{self.key}': port {self.port} is reserved by Flyte", hint="use another port, for example 8080"
            )
        if not 0 < self.container_port <= 65535:
            raise InvalidInput(f"app '{self.key}': {self.container_port} is not a TCP port", hint="use port=8080")
        for port in (self.port, self.server_port):
            if not 0 <= port <= 65535:
                raise InvalidInput(f"app '{self.key}': {port} is not a TCP port", hint="use port=8080")
        if 0 < self.port < 1024 and not self.egress:  # flyted-net@.service, which opens such ports, is not there
            raise InvalidInput(
                f"app '{self.key}': port {self.port} is below 1024, which an app without egress cannot open",
                hint="use port=8080: the ingress listens on 443 for it; or serve it without --no-egress",
            )

    def _check_start(self) -> None:
        path = self.ready_path
        if path and (not path.startswith("/") or len(path) > 256 or _NO_TARGET.search(path)):
            raise InvalidInput(
                f"app '{self.key}': {printable(path)} is not a valid request path",
                hint="use a path such as /health: letters, digits and punctuation, no spaces",
            )
        if path and self.h2c:
            raise InvalidInput(
                f"app '{self.key}': --ready-path is requested by HTTP/1.1, which a port named h2c does not speak",
                hint="omit --ready-path: the app is ready when its port answers",
            )
        if self.start_timeout_s and not 1.0 <= self.start_timeout_s <= MAX_START_S:
            raise InvalidInput(f"app '{self.key}': the start timeout must be 1 s to {MAX_START_S // 3600} hours")

    def _check_rate(self) -> None:
        if self.requests_per_s and not MIN_RATE <= self.requests_per_s <= MAX_RATE:
            raise InvalidInput(
                f"app '{self.key}': a limit of requests must be {MIN_RATE} to {MAX_RATE} a second",
                hint="use a rate such as 50/s or 30/m",
            )

    def _check_idle(self) -> None:
        if self.idle and (self.idle not in IDLE or self.engine_sleep):
            raise InvalidInput(
                f"app '{self.key}': {printable(self.idle)} is not what an idle app can do",
                hint="give --idle freeze, stop, sleep or sleep:2",
            )

    def _check_open_paths(self) -> None:
        if len(self.open_paths) > MAX_OPEN_PATHS:
            raise InvalidInput(f"app '{self.key}' has more than {MAX_OPEN_PATHS} open paths", hint="or all: /")
        for path in self.open_paths:
            if path != "/" and (len(path) > 256 or OPEN_PATH.fullmatch(path) is None):
                raise InvalidInput(
                    f"app '{self.key}': {printable(path)} cannot be opened",
                    hint="use a path such as /metrics (letters, digits and . _ ~ -); / opens all paths",
                )

    def _check_calls(self) -> None:
        if len(self.calls) > MAX_CALLS:
            raise InvalidInput(f"app '{self.key}' may call at most {MAX_CALLS} apps")
        for name in self.calls:
            label(name, f"the name of an app that app '{self.key}' may call")

    def _check_environment(self) -> None:
        if len(self.unmet) > MAX_UNMET:
            raise InvalidInput(f"app '{self.key}' asks for too many things that flyted does not support")
        if len(self.env) > MAX_ENV or len(self.secrets) > MAX_SECRETS:
            raise InvalidInput(f"app '{self.key}' has more than {MAX_ENV} variables or {MAX_SECRETS} secrets")
        for name, value in self.env:
            env_name(name)
            text_for_a_program(value, f"variable '{name}'")
        targets = [use.env or f"file {use.file}" for use in self.secrets]
        twice = sorted({t for t in targets if targets.count(t) > 1})
        if twice:
            raise InvalidInput(
                f"app '{self.key}': two secrets set the same {twice[0]}", hint="set as_env_var= on one of them"
            )

    def _check_python_env(self) -> None:
        path = self.python_env
        if path and (not path.startswith("/") or ".." in path.split("/")):
            raise InvalidInput(f"app '{self.key}': the Python environment must be an absolute path")
        if found := _CHANGED_IN_PATH.search(path):
            raise InvalidInput(
                f"app '{self.key}': the Python environment {printable(path)} has {printable(found[0])} in its name, "
                "which cannot be passed on to units and PATH",
                hint="use a plain name: sudo python3 -m venv /opt/env",
            )

    @property
    def bundles(self) -> tuple[str, ...]:
        """The SHA-256 of its code bundle, and of each bundle with what its image copies."""
        return tuple(dict.fromkeys(filter(None, (self.bundle, *of_image(self.image)))))

    @property
    def gpu(self) -> Ask:
        """The GPUs that the app asks for. Raises :class:`InvalidInput` for a request that no machine can meet."""
        return Ask(self.gpu_count, self.gpu_name, self.gpu_partition)

    def digest(self) -> str:
        """Return a digest that is equal for equal specs, by which a deploy sees that nothing has changed."""
        return hashlib.sha256(json.dumps(to_dict(self), sort_keys=True).encode()).hexdigest()


def to_dict(spec: AppSpec) -> dict[str, Any]:
    """Return the spec as JSON-ready data, which :func:`from_dict` reads."""
    return dataclasses.asdict(spec)


def from_dict(data: dict[str, Any]) -> AppSpec:
    """Make an AppSpec from data of another process or of the database.

    Raise :class:`InvalidInput` for a field that is unknown, missing, of a wrong type or not valid.
    """
    if not isinstance(data, dict):
        raise InvalidInput("an app's description must be a map")
    known = {f.name: f for f in dataclasses.fields(AppSpec)}
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise InvalidInput(f"an app's description has an unknown field {printable(unknown[0])}", hint="update flyted")
    try:
        values = dict(data)
        values["key"] = AppKey(**_texts(data["key"]))
        values["command"] = tuple(_text(w) for w in data["command"])
        values["env"] = tuple((_text(n), _text(v)) for n, v in data.get("env", ()))
        values["secrets"] = tuple(SecretUse(**_texts(s)) for s in data.get("secrets", ()))
        values["open_paths"] = tuple(_text(p) for p in data.get("open_paths", ()))
        values["calls"] = tuple(_text(n) for n in data.get("calls", ()))
        values["models"] = tuple((_text(n), _text(f)) for n, f in data.get("models", ()))
        values["volumes"] = tuple(VolumeUse(**_texts(v)) for v in data.get("volumes", ()))
        values["links"] = tuple((_text(t), _text(p)) for t, p in data.get("links", ()))
        values["unmet"] = tuple(_text(t) for t in data.get("unmet", ()))
        for name, kind in _SCALARS.items():
            if name in values:
                values[name] = _scalar(values[name], kind, name)
        return AppSpec(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"an app's description is not complete: {printable(str(error))}") from error


_KINDS: dict[object, type] = {"str": str, "int": int, "float": float, "bool": bool, "dict[str, Any]": dict}
_SCALARS = {each.name: _KINDS[each.type] for each in fields(AppSpec) if each.type in _KINDS}  # annotations are texts


def _scalar(value: object, kind: type, name: str) -> object:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind or (isinstance(value, float) and value != value):  # noqa: PLR0124  NaN
        raise InvalidInput(f"field {name} of an app's description must be {kind.__name__}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"expected a text in an app's description, found {type(value).__name__}")
    return value


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidInput("expected a map in an app's description")
    return {_text(k): _text(v) for k, v in value.items()}
