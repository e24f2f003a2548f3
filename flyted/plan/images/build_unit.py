"""Makes the units that build and remove images, and reads what a build leaves behind. Pure.

A build of wheels runs no code of a package. It may write all images, uv's cache and the shared byte code, because hard
links (cache → image) do not cross mounts, and every ``StateDirectory=`` is a mount of its own under ``ProtectSystem=``
(measured: EXDEV).
A build from source runs code of strangers. It is done in an isolated unit that can write only its own image.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flyted.build import words
from flyted.contract.app import SecretUse
from flyted.contract.errors import BuildFailed, InvalidInput, StoreCorrupt
from flyted.contract.names import printable
from flyted.contract.texts import plain_text
from flyted.plan.images.build_secrets import distinct
from flyted.plan.images.common_unit import (
    MEMORY_MAX,
    RUNTIME_MAX_S,
    filled_the_disk,
    own_lines,
    plain,
    python_unit,
    variables,
    was_killed,
)
from flyted.plan.images.recipe import Recipe, recipe_json
from flyted.plan.sandbox import CLOSED_NETWORKS, STUB_RESOLVERS, address, little_of_run

IMAGES = "/var/lib/flyted/images"
_UVS_REASON = re.compile(rf"{words.REASON}(\S.*)")
_MAKE_ROOM = f"free disk space (df -h {IMAGES}; flytectl image prune; flytectl app delete), then serve again"
KEEP_FREE = 1 << 30
"""The bytes of disk space that code of packages has to leave free for the machine."""
BUILDER = "/usr/lib/flyted/flyted/build"
UV = "/usr/lib/flyted/bin/uv"


@dataclass(frozen=True)
class BuildSettings:
    """The machine's settings for builds. Sizes are in bytes."""

    environment: Mapping[str, str] = field(default_factory=dict)  # UV_DEFAULT_INDEX and the like
    addresses: tuple[str, ...] = ()  # allowed although loopback or link-local: name servers, a mirror on this machine
    memory_max: int = MEMORY_MAX
    tasks_max: int = 1024
    uv: str = UV
    builder: str = BUILDER
    output_fd: int | None = None  # the client's pipe; None: the journal
    secrets: tuple[SecretUse, ...] = ()  # secrets that uv gets as variables in every build: images.secrets
    credentials: str = "/run/flyted/credentials.sock"


@dataclass(frozen=True)
class RecordedLayer:
    """A layer of a finished image. ``source``: where it comes from, for people."""

    source: str
    requirements: tuple[str, ...]
    seconds: float  # that it took; 0: not known


@dataclass(frozen=True)
class ImageRecord:
    """The content of ``image.json``. The builder writes it last, so an image that has it is complete."""

    hash: str
    python_asked: str
    python: str  # as used, with its patch version
    note: str
    packages: int
    built_at: float  # seconds since the epoch
    built: tuple[str, ...] = ()  # packages that were built from source, so that their code ran in the build
    bytes: int = 0  # of all files, also of those that images share; 0: not known
    layers: tuple[RecordedLayer, ...] = ()


def is_hash(name: str) -> bool:
    """Report whether ``name`` is the name of an image."""
    return words.HASH.fullmatch(name) is not None


def is_hash_prefix(text: str) -> bool:
    """Report whether a text can be the beginning of an image's name."""
    return re.fullmatch(r"[0-9a-f]{1,32}", text) is not None


def image_dir(recipe_hash: str) -> str:
    """Return the folder of the image with this hash, the same in the build and in the app's unit."""
    return f"{IMAGES}/{_checked(recipe_hash)}"


def unit_name(recipe_hash: str) -> str:
    """Return the name of the unit that builds an image: one per image, so systemd refuses two builds at a time."""
    return f"flyted-build-{_checked(recipe_hash)}.service"


def build_unit(
    recipe_hash: str,
    recipe: Recipe,
    settings: BuildSettings = BuildSettings(),
    others: Iterable[str] = (),
    *,
    isolated: bool = False,
) -> dict[str, Any]:
    """Return the properties of the transient service that builds ``recipe`` to :func:`image_dir`.

    ``others``: the hashes of finished images, which this build cannot write. ``isolated``: it can write only its own
    image, nothing that images share; to be used after ``EX_ISOLATED``. The recipe is no secret, so it
    travels in the unit. For the exit status see :func:`build_failure`. Raises :class:`InvalidInput` for a recipe that
    is too large, or with two secrets as one variable.
    """
    closed = [f"-{image_dir(other)}" for other in others if other != recipe_hash and is_hash(other)]
    uses = build_secrets(recipe, settings)
    options = [words.IMAGE, _checked(recipe_hash), *([words.ISOLATED] if isolated else [])]
    options += [word for name, use in uses.items() for word in (words.SECRET, f"{name}={use.env}")]
    return {
        **_common(f"Build of image {recipe_hash}", options, settings),
        "SetCredential": [(words.RECIPE, recipe_json(recipe).encode())],
        **({"LoadCredential": [(name, settings.credentials) for name in uses]} if uses else {}),
        **(_own_folder(recipe_hash, settings) if isolated else {"ReadOnlyPaths": closed}),
        "LogExtraFields": [f"FLYTED_IMAGE={recipe_hash}"],
        **machine_network(settings.addresses),
    }


def build_secrets(recipe: Recipe, settings: BuildSettings) -> dict[str, SecretUse]:
    """Return the secrets that a build reads, by the id of the credential that carries each.

    Raises :class:`InvalidInput` if two secrets would be one variable.
    """
    uses = distinct((*(use for install in recipe.installs for use in install.secrets), *settings.secrets))
    return {f"b{number}": use for number, use in enumerate(uses)}


def remove_unit(
    hashes: Iterable[str], settings: BuildSettings = BuildSettings(), *, prune: bool = False
) -> dict[str, Any]:
    """Return the properties of the service that deletes images, as the user who owns them.

    ``prune``: also empty uv's cache, and remove byte code that no image has. Files that images share with the two by
    hard links stay theirs.
    """
    options = [word for each in hashes for word in (words.REMOVE, _checked(each))]
    options += [words.PRUNE] if prune else []
    return {**_common("Removal of images", options, settings), "PrivateNetwork": True}


def loopback_nameservers(nameservers: Iterable[str]) -> tuple[str, ...]:
    """Return the name servers that :func:`build_unit` would make unreachable: for ``BuildSettings.addresses``."""
    closed = [ipaddress.ip_network(net) for net in CLOSED_NETWORKS]
    return tuple(a for a in nameservers if any(ipaddress.ip_address(a) in n for n in closed))


def record_of(text: str) -> ImageRecord:
    """Return the record in the text of an ``image.json``.

    Raises :class:`StoreCorrupt` if it is not readable: the image then counts as incomplete, and has to be built.
    """
    try:
        data = json.loads(text)
        return ImageRecord(
            hash=_text(data["hash"]), python_asked=_text(data["python_asked"]), python=_text(data["python"]),
            note=_text(data["note"]), packages=int(data["packages"]), built_at=float(data["built_at"]),
            built=tuple(_text(each) for each in data["built"]), bytes=int(data.get("bytes", 0)),
            layers=tuple(_layers(data.get("recipe", {}).get("installs", []), data.get("seconds", []))),
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, AttributeError, InvalidInput) as error:
        raise StoreCorrupt(f"an image's record is not readable: {printable(str(error))}") from error


def repeats(line: str, before: Iterable[str]) -> bool:
    """Report whether the builder's line repeats a reason that uv has printed in one of the lines ``before``.

    Such a line need not be shown: the deploy's own error says it again.
    """
    told = (found[1] for each in before if (found := _UVS_REASON.match(each)))
    return line.startswith(words.OURS) and any(line.endswith(reason) for reason in told)


def build_failure(result: str, exit_status: int, lines: Iterable[str]) -> BuildFailed:
    """Return the error that says why a build failed.

    ``result``, ``exit_status``: systemd's ``Result`` and ``ExecMainStatus``. ``lines``: the last lines of the output.
    """
    output = list(lines)
    if result == "timeout":
        return BuildFailed(
            f"the image was not ready after {RUNTIME_MAX_S // 60} minutes", hint="serve again: downloads are kept"
        )
    if was_killed(result, exit_status):
        return BuildFailed(
            "the image's build was killed: it used too much memory",
            hint=f"a build may take {MEMORY_MAX >> 30} GiB: use versions of the packages that have wheels",
        )
    if filled_the_disk(output):
        return BuildFailed(f"the image could not be built: the disk of {IMAGES} is full", hint=_MAKE_ROOM)
    if ours := own_lines(output, words.OURS):
        return BuildFailed(f"the image could not be built: {plain(ours[-1])}")  # it may quote a build script
    return BuildFailed(f"the image could not be built: {printable(result)}, exit status {exit_status}")


def killed_for_room() -> BuildFailed:
    """Return the error that says why a build was killed that left less than :data:`KEEP_FREE`."""
    return BuildFailed(
        f"the image's build was killed: less than {KEEP_FREE >> 20} MB of disk space were free", hint=_MAKE_ROOM
    )


def _checked(recipe_hash: str) -> str:
    """Return the hash, so that no other text becomes a path or a unit's name. A ``ValueError`` is a fault of ours."""
    if not is_hash(recipe_hash):
        raise ValueError(recipe_hash)
    return recipe_hash


def _own_folder(recipe_hash: str, settings: BuildSettings) -> dict[str, Any]:
    """Return the properties that make only the image's own folder writable.

    They replace the folder of all images, which ``ProtectSystem=strict`` then makes read-only.
    """
    return {
        "StateDirectory": [],
        "ReadWritePaths": [image_dir(recipe_hash)],
        "Environment": [*_environment(settings), f"STATE_DIRECTORY={IMAGES}"],
    }


def _environment(settings: BuildSettings) -> list[str]:
    return variables("/usr/local/bin:/usr/bin:/bin", settings.environment)


def _common(description: str, options: list[str], settings: BuildSettings) -> dict[str, Any]:
    common = python_unit(
        description,
        [settings.builder, words.UV, settings.uv, *options],
        _environment(settings),
        tag="flyted-build",
        memory_max=settings.memory_max,
        tasks_max=settings.tasks_max,
        output_fd=settings.output_fd,
    )
    return {
        **common,
        "StateDirectory": ["flyted/images"],
        "StateDirectoryMode": 0o755,  # apps read their image
        "UMask": 0o022,
        **SANDBOX,
    }


SANDBOX: dict[str, Any] = {
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


def machine_network(addresses: Iterable[str]) -> dict[str, Any]:
    """Return the properties of the machine's network without the networks that are closed to apps too.

    Private networks stay open, for mirrors.
    """
    allowed = dict.fromkeys((*STUB_RESOLVERS, *addresses))
    return {
        "IPAddressDeny": [address(net) for net in CLOSED_NETWORKS],
        "IPAddressAllow": [address(each) for each in allowed],
    }


def _layers(installs: list[Any], seconds: list[Any]) -> Iterator[RecordedLayer]:
    """Yield the layers of a record. An image of flyted 0.1.0 does not say how long they took."""
    for number, install in enumerate(installs):
        took = seconds[number] if number < len(seconds) else 0.0
        requirements = tuple(_text(each) for each in install["requirements"])
        yield RecordedLayer(_text(install["source"]), requirements, float(took))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return plain_text(value, "a text of an image's record", limit=1024)
