"""The units that build and remove images, as properties; what they leave behind, as data.

A build of wheels runs no code of a package. It may write all images and uv's cache, since hard links (cache -> image)
do not cross mounts, and every ``StateDirectory=`` is a mount of its own under ``ProtectSystem=`` (measured: EXDEV).
What has to be built from source runs code of strangers: a unit that can write only its own image does that, apart.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flyted.contract.app import SecretUse, plain_text
from flyted.contract.errors import BuildFailed, InvalidInput, StoreCorrupt
from flyted.contract.names import shown
from flyted.plan.build_secrets import distinct
from flyted.plan.recipe import Recipe, recipe_json
from flyted.plan.sandbox import CLOSED_NETWORKS, STUB_RESOLVERS, address, little_of_run

IMAGES = "/var/lib/flyted/images"
USER = "flyted-build"
_UVS_REASON = re.compile(r"\s*(?:╰─▶|├─▶|error:|cause:|Caused by:)\s*(\S.*)")  # as in flyted/build/uv.py
PYTHON = "/usr/bin/python3"
BUILDER = "/usr/lib/flyted/flyted/build"
UV = "/usr/lib/flyted/bin/uv"
RUNTIME_MAX_S = 3600
BUILD_APART = 3
"""The builder's exit status when a package has no wheel: a unit with ``apart`` goes on. ``flyted/build/failed.py``"""
_HASH = re.compile(r"[0-9a-f]{32}")
_DISK_FULL = ("No space left on device", "Disk quota exceeded")  # strerror(3) of ENOSPC and EDQUOT, uv's words too


@dataclass(frozen=True)
class BuildSettings:
    """What the machine decides about builds. Sizes in bytes."""

    environment: Mapping[str, str] = field(default_factory=dict)  # UV_DEFAULT_INDEX and the like
    addresses: tuple[str, ...] = ()  # opened although loopback or link-local: name servers, a mirror on this machine
    memory_max: int = 8 << 30
    tasks_max: int = 1024
    uv: str = UV
    builder: str = BUILDER
    output_fd: int | None = None  # the client's pipe; None: the journal
    secrets: tuple[SecretUse, ...] = ()  # what uv gets as variables besides, from the store: images.secrets
    credentials: str = "/run/flyted/credentials.sock"


@dataclass(frozen=True)
class ImageRecord:
    """``image.json``: written last, so whoever has it has a complete image."""

    hash: str
    python_asked: str
    python: str  # as used, with its patch version
    note: str
    packages: int
    built_at: float  # seconds since the epoch
    built: tuple[str, ...] = ()  # what was built from source, so ran code of its own in the build


def is_hash(name: str) -> bool:
    """Whether this is the name of an image."""
    return _HASH.fullmatch(name) is not None


def image_dir(recipe_hash: str) -> str:
    """Where the image of a hash is, in the build and in the app's unit alike."""
    return f"{IMAGES}/{_checked(recipe_hash)}"


def unit_name(recipe_hash: str) -> str:
    """One unit per image: systemd itself refuses to build one twice at a time."""
    return f"flyted-build-{_checked(recipe_hash)}.service"


def build_unit(
    recipe_hash: str,
    recipe: Recipe,
    settings: BuildSettings = BuildSettings(),
    others: Iterable[str] = (),
    *,
    apart: bool = False,
) -> dict[str, Any]:
    """The properties of the transient service that builds ``recipe`` to :func:`image_dir`.

    ``others``: the hashes of finished images, which this build shall not be able to write. ``apart``: neither can it
    write uv's cache and the Pythons; for after :data:`BUILD_APART`. The recipe is no secret: it travels in the unit.
    Exit status: see :func:`build_failure`.
    """
    closed = [f"-{image_dir(other)}" for other in others if other != recipe_hash and is_hash(other)]
    uses = build_secrets(recipe, settings)
    words = ["--image", _checked(recipe_hash), *(["--apart"] if apart else [])]
    words += [word for name, use in uses.items() for word in ("--secret", f"{name}={use.env}")]
    return {
        **_common(f"Build of image {recipe_hash}", words, settings),
        "SetCredential": [("recipe", recipe_json(recipe).encode())],
        **({"LoadCredential": [(name, settings.credentials) for name in uses]} if uses else {}),
        **(_own_folder(recipe_hash, settings) if apart else {"ReadOnlyPaths": closed}),
        "LogExtraFields": [f"FLYTED_IMAGE={recipe_hash}"],
        **_network(settings.addresses),
    }


def build_secrets(recipe: Recipe, settings: BuildSettings) -> dict[str, SecretUse]:
    """The secrets that a build reads, by the id of the credential in which each comes."""
    uses = distinct((*(use for install in recipe.installs for use in install.secrets), *settings.secrets))
    return {f"b{number}": use for number, use in enumerate(uses)}


def remove_unit(
    hashes: Iterable[str], settings: BuildSettings = BuildSettings(), *, prune: bool = False
) -> dict[str, Any]:
    """The properties of the service that deletes images: their owner has to do it.

    ``prune``: uv's cache too, but for what images share with it.
    """
    words = [word for each in hashes for word in ("--remove", _checked(each))]
    words += ["--prune"] if prune else []
    return {**_common("Removal of images", words, settings), "PrivateNetwork": True}


def loopback_nameservers(nameservers: Iterable[str]) -> tuple[str, ...]:
    """Those of the machine's name servers that :func:`build_unit` would cut off: for ``BuildSettings.addresses``."""
    closed = [ipaddress.ip_network(net) for net in CLOSED_NETWORKS]
    return tuple(a for a in nameservers if any(ipaddress.ip_address(a) in n for n in closed))


def all_nameservers(resolv_conf: str) -> tuple[str, ...]:
    """The name servers of a resolv.conf(5), each once, without what is no address."""
    found = re.findall(r"^[ \t]*nameserver[ \t]+([0-9A-Fa-f:.]+)", resolv_conf, re.MULTILINE)
    return tuple(dict.fromkeys(a for a in found if _valid(a)))


def record_of(text: str) -> ImageRecord:
    """The content of an ``image.json``. Raises :class:`StoreCorrupt`: the image is then not complete, build it."""
    try:
        data = json.loads(text)
        return ImageRecord(
            hash=_text(data["hash"]), python_asked=_text(data["python_asked"]), python=_text(data["python"]),
            note=_text(data["note"]), packages=int(data["packages"]), built_at=float(data["built_at"]),
            built=tuple(_text(each) for each in data["built"]),
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, InvalidInput) as error:
        raise StoreCorrupt(f"an image's record is not readable: {shown(str(error))}") from error


def repeats(line: str, before: Iterable[str]) -> bool:
    """Whether the builder says again what uv has just said: the deploy's own error tells it once more."""
    told = (found[1] for each in before if (found := _UVS_REASON.match(each)))
    return line.startswith("flyted-build: ") and any(line.endswith(words) for words in told)


def build_failure(result: str, exit_status: int, lines: Iterable[str]) -> BuildFailed:
    """Why a build failed: systemd's ``Result`` and ``ExecMainStatus``, and the last lines of its output."""
    output = list(lines)
    said = [line.removeprefix("flyted-build: ") for line in output if line.startswith("flyted-build: ")]
    if result == "timeout":
        return BuildFailed(
            f"the image was not ready after {RUNTIME_MAX_S // 60} minutes", hint="serve again: downloads are kept"
        )
    if result == "oom-kill" or (result == "signal" and exit_status == 9):
        return BuildFailed("the image's build was killed: it took too much memory", hint="see [images] in flyted.toml")
    if any(words in line for line in output for words in _DISK_FULL):
        return BuildFailed(
            f"the image could not be built: the disk of {IMAGES} is full",
            hint=f"make room (df -h {IMAGES}; flytectl app delete what is not needed), then serve again",
        )
    if said:
        # the last words may be a build script's own: nothing of them may move a terminal's cursor
        words = "".join(char if char.isprintable() else " " for char in said[-1][:1000])
        return BuildFailed(f"the image could not be built: {words}")
    return BuildFailed(f"the image could not be built: {shown(result)}, exit status {exit_status}")


def _checked(recipe_hash: str) -> str:
    """No other text becomes a path or a unit's name; a ``ValueError`` here is a fault of ours."""
    if not is_hash(recipe_hash):
        raise ValueError(recipe_hash)
    return recipe_hash


def _own_folder(recipe_hash: str, settings: BuildSettings) -> dict[str, Any]:
    """Instead of the folder of all images, which ``ProtectSystem=strict`` then makes read-only."""
    return {
        "StateDirectory": [],
        "ReadWritePaths": [image_dir(recipe_hash)],
        "Environment": [*_environment(settings), f"STATE_DIRECTORY={IMAGES}"],
    }


def _environment(settings: BuildSettings) -> list[str]:
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **settings.environment}
    return [f"{name}={value}" for name, value in sorted(environment.items())]


def _common(description: str, words: list[str], settings: BuildSettings) -> dict[str, Any]:
    argv = [PYTHON, "-I", settings.builder, "--uv", settings.uv, *words]
    output: dict[str, Any] = {"StandardOutput": "journal", "StandardError": "inherit"}
    if settings.output_fd is not None:
        output = {
            "StandardOutputFileDescriptor": settings.output_fd, "StandardErrorFileDescriptor": settings.output_fd,
        }  # fmt: skip
    return {
        "Description": description,
        "Type": "exec",
        "ExecStartEx": [(PYTHON, argv, ["no-env-expand"])],
        "User": USER,
        "Group": USER,
        "Environment": _environment(settings),
        "StateDirectory": ["flyted/images"],
        "StateDirectoryMode": 0o755,  # apps read their image
        "UMask": 0o022,
        "SyslogIdentifier": "flyted-build",
        "CollectMode": "inactive-or-failed",
        "RuntimeMaxUSec": RUNTIME_MAX_S * 1_000_000,
        "TimeoutStopUSec": 10_000_000,
        "MemoryMax": settings.memory_max,
        "TasksMax": settings.tasks_max,
        "CPUWeight": 20,  # apps that serve come first
        "IOWeight": 20,
        **output,
        **_SANDBOX,
    }


_SANDBOX: dict[str, Any] = {
    # no MemoryDenyWriteExecute, no ProcSubset: compilers and build backends of source packages run here
    "NoNewPrivileges": True,
    "CapabilityBoundingSet": 0,
    "AmbientCapabilities": 0,
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": True,
    "PrivateDevices": True,
    "PrivateMounts": True,
    "PrivateIPC": True,
    "PrivateUsers": True,
    "ProtectProc": "invisible",
    "ProtectKernelTunables": True,
    "ProtectKernelModules": True,
    "ProtectKernelLogs": True,
    "ProtectControlGroups": True,
    "ProtectClock": True,
    "ProtectHostname": True,
    "RestrictNamespaces": 0,
    "RestrictRealtime": True,
    "RestrictSUIDSGID": True,
    "LockPersonality": True,
    "RemoveIPC": True,
    "KeyringMode": "private",
    "SystemCallArchitectures": ["native"],
    "SystemCallFilter": [(True, ["@system-service"]), (False, ["@privileged", "@resources"])],
    "SystemCallErrorNumber": 1,  # EPERM
    "RestrictAddressFamilies": (True, ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"]),  # netlink: getaddrinfo
    "DevicePolicy": "closed",
    "LimitCORE": 0,
    "InaccessiblePaths": ["-/var/lib/flyted/bundles"],
    **little_of_run(),
}


def _network(addresses: Iterable[str]) -> dict[str, Any]:
    """The machine's, less what is closed to apps too. Private networks stay open: for mirrors."""
    allowed = dict.fromkeys((*STUB_RESOLVERS, *addresses))
    return {
        "IPAddressDeny": [address(net) for net in CLOSED_NETWORKS],
        "IPAddressAllow": [address(each) for each in allowed],
    }


def _valid(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return plain_text(value, "a text of an image's record", limit=1024)
