"""Makes the unit that pulls a container image, and reads what it leaves behind and how it failed. Pure.

The unit has no right at all: it runs as the build's user, writes only its own folder, and reaches only what apps reach
(and what settings name). What it wrote is a stranger's, and is checked here again.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flyted.contract.app import SecretUse
from flyted.contract.errors import BuildFailed, InvalidInput, StoreCorrupt
from flyted.contract.names import printable
from flyted.plan.facts import UnitEnd
from flyted.plan.images.build_unit import SANDBOX, machine_network
from flyted.plan.images.common_unit import RUNTIME_MAX_S, USER, own_lines, python_unit, variables, was_killed
from flyted.plan.secrets import BuildGrant
from flyted.registry import words
from flyted.registry.reference import DOCKER_HUB, Reference, parse, registry

BLOBS = "/var/lib/flyted/blobs"
PULLER = "/usr/lib/flyted/flyted/registry"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}  # uname -m → the name in images (Go's)
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]{1,255}(?:/[A-Za-z0-9._/-]{0,255})?")
_HOST = re.compile(r"(?:https?://)?(?:[^@/]*@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/]+)")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MOST_LAYERS = 500


@dataclass(frozen=True)
class PullSettings:
    """The machine's settings for pulls. ``mirrors``: registry → address, see :func:`mirrors`."""

    mirrors: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)  # proxies, and SSL_CERT_FILE
    addresses: tuple[str, ...] = ()  # as of BuildSettings
    most_bytes: int = 64 << 30  # of an image's layers, as they come
    memory_max: int = 1 << 30
    output_fd: int | None = None  # the client's pipe; None: the journal
    credentials: str = "/run/flyted/credentials.sock"


@dataclass(frozen=True)
class Layer:
    """One layer of a pulled image. ``digest``: of the blob, ``diff_id``: of it without compression; sizes in bytes."""

    digest: str
    media: str
    size: int
    diff_id: str


@dataclass(frozen=True)
class PulledImage:
    """The record of a pull. ``config``: how its program is run, as the image says it (unchecked)."""

    reference: str
    platform: str
    manifest: str
    layers: tuple[Layer, ...]  # lowest first
    config: Mapping[str, Any]


def image_name(text: str, where: str) -> Reference:
    """Return the name of a container image, with its defaults. Raises :class:`InvalidInput`."""
    try:
        return parse(text)
    except ValueError as error:
        raise InvalidInput(
            f"{where}: {printable(text)} is not a container image: {error}",
            hint="write it as python:3.12-slim, ghcr.io/owner/image:tag or registry/image@sha256:…",
        ) from error


def platform_of(arch: str) -> str:
    """Return the platform of a machine, as images name it. ``arch``: as of uname -m."""
    return f"linux/{_MACHINES.get(arch, arch)}"


def mirrors(table: Mapping[str, Any]) -> dict[str, str]:
    """Return where registries are asked instead: registry → address (flyted.toml(5), images.mirrors).

    An address with http:// is asked without TLS. It may be the registry's own: then that registry is, and it may be on
    this machine. Raises :class:`InvalidInput` for what is no registry or no address.
    """
    found = {}
    for name, address in table.items():
        try:
            key = registry(name)
        except ValueError as error:
            raise InvalidInput(str(error)) from error
        if not isinstance(address, str) or _URL.fullmatch(address) is None:
            raise InvalidInput(
                f"the mirror of {printable(name)} must be an address, such as https://mirror.example.com"
            )
        found[key] = address
    return found


def login_use(key: str) -> SecretUse:
    """Return what a pull is given for its logins. ``key``: the secret's name. Raises :class:`InvalidInput`."""
    return SecretUse(key, file=words.AUTH)


def login_grant(key: str, scope: tuple[str, str]) -> BuildGrant | None:
    """Return what the unit may have of flyted. ``key``: the secret with the logins; "": none, and so nothing."""
    return BuildGrant(*scope, {words.AUTH: login_use(key)}) if key else None


def unit_name(
    reference: Reference, platform: str, *, resolve_only: bool = False, login: BuildGrant | None = None
) -> str:
    """Return the name of the unit: one per image, so systemd refuses two pulls of one image at a time.

    A caller with another login, or none, does not wait for such a pull, but asks the registry itself.
    """
    whose = [login.project, login.domain, login.uses[words.AUTH].key] if login is not None else []
    of = json.dumps([str(reference), platform, resolve_only, *whose])
    return f"flyted-pull-{hashlib.sha256(of.encode()).hexdigest()[:32]}.service"


def pull_unit(
    reference: Reference,
    platform: str,
    settings: PullSettings = PullSettings(),
    *,
    login: bool = False,
    resolve_only: bool = False,
) -> dict[str, Any]:
    """Return the properties of the transient service that pulls an image.

    ``login``: it gets logins, as the credential ``words.AUTH``. ``resolve_only``: it only finds out which image that
    is. For its output see :func:`resolved`, for its end :func:`pull_failure`.
    """
    options = [words.PULL, str(reference), words.PLATFORM, platform]
    options += [words.MOST_BYTES, str(settings.most_bytes), *([words.RESOLVE_ONLY] if resolve_only else [])]
    return {
        **client_unit(f"Pull of {reference}", options, settings),
        "StateDirectory": ["flyted/blobs"],
        "StateDirectoryMode": 0o755,  # steps read blobs
        "UMask": 0o022,
        **({"LoadCredential": [(words.AUTH, settings.credentials)]} if login else {}),
    }


def client_unit(description: str, options: list[str], settings: PullSettings) -> dict[str, Any]:
    """Return the properties of a service that runs the registry client, which keeps nothing and has no right."""
    mirrors = [word for each in sorted(settings.mirrors.items()) for word in (words.MIRROR, "=".join(each))]
    common = python_unit(
        description,
        [PULLER, *options, *mirrors],
        variables("/usr/bin:/bin", settings.environment),
        tag="flyted-pull",
        memory_max=settings.memory_max,
        tasks_max=64,
        output_fd=settings.output_fd,
    )
    return {
        **common,
        **SANDBOX,
        **machine_network((*settings.addresses, *_own_addresses(settings))),
        "MemoryDenyWriteExecute": True,
        "InaccessiblePaths": [f"-/var/lib/flyted/{name}" for name in ("bundles", "images", "layers", "roots")],
    }


def forget_unit() -> dict[str, Any]:
    """Return a service that does nothing but own all that was pulled, so that systemd can be asked to delete it."""
    return {
        "Description": "Removal of the downloads of images",
        "Type": "oneshot",
        "ExecStartEx": [("/bin/true", ["/bin/true"], ["no-env-expand"])],
        "User": USER,
        "Group": USER,
        "StateDirectory": ["flyted/blobs"],
        "CollectMode": "inactive-or-failed",
        **SANDBOX,
    }


def resolved(lines: Iterable[str]) -> str:
    """Return which image a pull that ended well found: the manifest's digest. ``lines``: its last output.

    Raises :class:`StoreCorrupt` if it does not say it.
    """
    for line in reversed(own_lines(lines, words.OURS)):
        if found := words.DONE.fullmatch(line):
            return found["digest"]
    raise StoreCorrupt("a pull ended without saying which image it pulled")


def record_path(digest: str, *, resolve_only: bool = False) -> str:
    """Return where the record of an image is. ``digest``: of its manifest. Raises :class:`InvalidInput`."""
    if _DIGEST.fullmatch(digest) is None:
        raise InvalidInput(f"{printable(digest)} is not a digest of an image")
    return f"{BLOBS}/{words.RESOLVED if resolve_only else words.PULLED}/{digest.removeprefix('sha256:')}.json"


def pulled_image(text: str) -> PulledImage:
    """Return the record in the text of a file. Raises :class:`StoreCorrupt` if it is not as a pull writes it."""
    try:
        data = json.loads(text)
        layers = tuple(_layer(each) for each in data["layers"])
        config = data["image"]["config"]
        reference, platform = str(parse(data["reference"])), str(data["platform"])
        found = PulledImage(reference, platform, _digest(data["manifest"]), layers, config)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StoreCorrupt(f"the record of a pulled image is not readable: {printable(str(error))}") from error
    if data.get("format") != words.FORMAT or len(layers) > _MOST_LAYERS or not isinstance(config, dict):
        raise StoreCorrupt("the record of a pulled image has an unknown format")
    return found


def pull_failure(
    reference: Reference, result: str, exit_status: int, lines: Iterable[str], mirrors: Mapping[str, str] | None = None
) -> BuildFailed:
    """Return the error that says why a pull failed, and what to type next. ``mirrors``: of :class:`PullSettings`.

    ``result``, ``exit_status``: systemd's ``Result`` and ``ExecMainStatus``. ``lines``: the last lines of the output.
    """
    image, ours = str(reference), own_lines(lines, words.OURS)
    if result == "timeout":
        return BuildFailed(
            f"{image} was not pulled after {RUNTIME_MAX_S // 60} minutes", hint="try again: downloads are kept"
        )
    if was_killed(result, exit_status):
        return BuildFailed(f"the pull of {image} was killed", hint="sudo journalctl -t flyted-pull")
    why = ours[-1] if ours else f"the pull ended with status {exit_status}"
    mirror = (mirrors or {}).get(reference.registry, "")
    elsewhere = f"flyted.toml names {mirror} as its mirror: copy the image there, or change images.mirrors"
    hints = {
        words.EX_NOTFOUND: elsewhere
        if mirror and server_of(mirror) != reference.registry
        else f"check the name and the tag: {image}",
        words.EX_NOPERM: _login_hint(reference, mirror),
        words.EX_UNFIT: "use another tag, or an image that is made for this machine",
        words.EX_REFUSED: _refused_hint(reference, mirror, why),
        words.EX_UNAVAILABLE: "see images.mirrors and images.environment (proxies) in flyted.toml; then try again: "
        "downloads are kept",
        words.EX_DATAERR: "try again; if it happens again, the registry or a mirror is damaged",
        words.EX_SOFTWARE: "try again; please report it, with this line",
        words.EX_IOERR: "make room in /var/lib/flyted",
        words.EX_CONFIG: "the secret must be a Docker config.json with logins",
    }
    return BuildFailed(f"{image}: {why}", hint=hints.get(exit_status, "sudo journalctl -t flyted-pull"))


def unreachable(end: UnitEnd) -> bool:
    """Report whether a pull ended because the registry did not answer."""
    return end == UnitEnd("exit-code", words.EX_UNAVAILABLE)


def lacking(reference: Reference, end: UnitEnd, mirrors: Mapping[str, str]) -> bool:
    """Report whether a pull ended because the mirror that is asked in a registry's place has no such image.

    It may not give it to everybody either. What the registry itself has is not known then.
    """
    refused = [UnitEnd("exit-code", status) for status in (words.EX_NOTFOUND, words.EX_NOPERM)]
    return reference.registry in mirrors and end in refused


def _own_addresses(settings: PullSettings) -> tuple[str, ...]:
    """Return the addresses that mirrors and proxies are written with: settings may name what is otherwise closed."""
    proxies = [text for name, text in settings.environment.items() if name.lower().endswith("_proxy")]
    found: list[str] = []
    for text in (*settings.mirrors.values(), *proxies):
        host = _HOST.match(text)
        if host is not None and host["host"].lower() == "localhost":
            found += ("127.0.0.1", "::1")
        elif host is not None:
            with contextlib.suppress(ValueError):  # a name
                found.append(str(ipaddress.ip_address(host["host"].strip("[]"))))
    return tuple(dict.fromkeys(found))


def _refused_hint(reference: Reference, mirror: str, why: str) -> str:
    """Return what to do about an address that is closed: of the registry itself, or one that it leads to."""
    if why.startswith(f"{server_of(mirror) or reference.registry} "):
        return f'a registry on this machine needs images.mirrors."{reference.registry}" in flyted.toml'
    return "the registry itself leads there: use another one, or a mirror of it (images.mirrors in flyted.toml)"


def _login_hint(reference: Reference, mirror: str) -> str:
    """Return how to log in to a registry or, as it alone gets the login, to the ``mirror`` that is asked for it."""
    own = reference.registry if reference.registry != DOCKER_HUB else ""
    login = f"docker login {server_of(mirror) or own}".strip()
    store = "flytectl secret create LOGIN --from-file ~/.docker/config.json"
    return f'{login}; {store}; then registry_secret="LOGIN" of the image, or image pull --registry-secret LOGIN'


def server_of(address: str) -> str:
    """Return the host and port in an address as https://mirror.example.com:5000/hub."""
    return address.partition("://")[2].partition("/")[0]


def _layer(data: Any) -> Layer:
    size, media = data["size"], data["media"]
    if type(size) is not int or size < 0 or not isinstance(media, str) or len(media) > 255:
        raise ValueError("a layer")
    return Layer(_digest(data["digest"]), media, size, _digest(data["diff_id"]))


def _digest(value: Any) -> str:
    if _DIGEST.fullmatch(value) is None:
        raise ValueError("a digest")
    return str(value)
