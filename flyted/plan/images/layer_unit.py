"""Makes the units that make and remove layers of images, and reads how one ended. Pure.

The unit's user has two capabilities, and only until its program has entered a user namespace (flyted/layers/enter.py).
From then on a step is root of that namespace: in the machine a user that owns nothing but layers. What is not closed
here, since the program needs it first (mounts, namespaces, a /proc that is whole), it closes before the step.

Two properties need a reason:

- ``ProtectKernelTunables=`` is missing: it covers parts of /proc, after which no new /proc can be mounted. The program
  covers the same parts itself, in the step's /proc.
- ``AppArmorProfile=-flyted`` names a profile: Ubuntu lets only programs with a profile create user namespaces. Steps
  and the router run by ``/usr/bin/python3``, and a profile for that path would lift the restriction for every Python
  program. So ours is attached to no path. The package installs it only if the machine's parser can read it: Debian
  12's does not know the rule, and ``apparmor.service`` would fail at each boot. Debian's parser reads the profile
  (``tests/machine/test_apparmor.py``); that it lifts Ubuntu's restriction is not tested, since no Ubuntu kernel was
  available.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flyted.contract.errors import BuildFailed
from flyted.contract.names import EGRESS_UNIT, printable
from flyted.layers import words
from flyted.plan.images.build_unit import KEEP_FREE, UV
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
from flyted.plan.images.fitness import PROFILE
from flyted.plan.sandbox import RESOLVERS, STUB_RESOLVERS, Network, little_of_run, sandbox

LAYERS = "/var/lib/flyted/layers"
STATE = "/var/lib/flyted"
PROGRAM = "/usr/lib/flyted/flyted/layers"
RESOLVER = "/usr/lib/flyted/resolv.conf"
_SHOWN_LINES = 12
_INSTRUCTION = re.compile(r": [A-Z]+$")
_NO_ROOM = f"no space was left: see df -h {LAYERS}; in memory a step has less, in /dev/shm and /run 256 MiB each"
"""A command's error does not say which file system was full."""
_NO_UV = re.compile(r"\buv: not found")
_SETGID, _SETUID = 1 << 6, 1 << 7  # linux/capability.h
_NAMESPACES = 0x10000000 | 0x20000 | 0x4000000 | 0x8000000 | 0x20000000  # sched.h: user, mount, UTS, IPC, processes


@dataclass(frozen=True)
class LayerSettings:
    """The machine's settings for layers. Sizes are in bytes."""

    environment: Mapping[str, str] = field(default_factory=dict)  # proxies, and the like of UV_DEFAULT_INDEX
    nameservers: tuple[str, ...] = ()  # the machine's
    memory_max: int = MEMORY_MAX
    tasks_max: int = 1024
    layer_bytes: int = 32 << 30
    layer_files: int = 2_000_000
    keep_free: int = KEEP_FREE
    output_fd: int | None = None  # the client's pipe; None: the journal
    credentials: str = "/run/flyted/credentials.sock"
    runtime_max_s: int = RUNTIME_MAX_S


def layer_unit_name(layer: str) -> str:
    """Return the name of the unit that makes a layer: one per layer, so systemd refuses two at a time."""
    return f"flyted-layer-{_checked(layer)}.service"


def layer_unit(
    layer: str,
    job: bytes,
    settings: LayerSettings = LayerSettings(),
    *,
    network: bool,
    bundles: Iterable[str] = (),
    blobs: Iterable[str] = (),
    secrets: Iterable[str] = (),
) -> dict[str, Any]:
    """Return the properties of the transient service that makes a layer.

    ``job``: as flyted/layers/job.py reads it. ``network``: whether the step has egress, that of apps, or none.
    ``bundles``, ``blobs``: the SHA-256 of what the step reads. ``secrets``: the credentials that it gets of flyted.
    For the exit status see :func:`layer_failure`; the layer is whole when the unit has ended with 0.
    """
    files = [f"{words.BUNDLES}/{digest}.tar.gz" for digest in bundles]
    files += [f"{words.BLOBS}/{digest}" for digest in blobs]
    options = [
        words.LAYERS, LAYERS, words.UV, UV, words.LAYER_BYTES, str(settings.layer_bytes),
        words.LAYER_FILES, str(settings.layer_files), words.KEEP_FREE, str(settings.keep_free),
    ]  # fmt: skip
    asked = [(name, settings.credentials) for name in secrets]
    return {
        **_common(f"Layer {_checked(layer)} of images", options, settings, files, network=network),
        **(_egress(layer) if network else {}),
        "SetCredential": [(words.JOB, job)],
        **({"LoadCredential": asked, "MemorySwapMax": 0} if asked else {}),  # a secret must not be swapped to the disk
        "LogExtraFields": [f"FLYTED_LAYER={layer}"],
    }


def remove_layers_unit(layers: Iterable[str], settings: LayerSettings = LayerSettings()) -> dict[str, Any]:
    """Return the properties of the service that removes layers, as root of the namespace that made them."""
    options = [words.LAYERS, LAYERS, words.REMOVE, *(_checked(each) for each in layers)]
    return _common("Removal of layers of images", options, settings, [], network=False)


def layer_failure(
    show: str, result: str, exit_status: int, lines: Iterable[str], settings: LayerSettings = LayerSettings()
) -> BuildFailed:
    """Return the error that says why a layer could not be made.

    ``show``: the step, for people. ``result``, ``exit_status``: systemd's ``Result`` and ``ExecMainStatus``.
    ``lines``: the last lines of the output; a few of them are shown if the step's command failed. ``settings``: the
    limits that the unit had.
    """
    output = list(lines)
    step, ours = plain(show), [plain(line) for line in own_lines(output, words.OURS)]
    if result == "timeout":
        return BuildFailed(
            f"{step}: not finished after {_time(settings.runtime_max_s)}", hint="split it into more steps"
        )
    if was_killed(result, exit_status):
        return BuildFailed(
            f"{step}: it used too much memory",
            hint=f"a step may take {_size(settings.memory_max)}: let it do less at a time, for example with make -j2",
        )
    full = filled_the_disk(output)
    if full and exit_status != words.EX_STEP:
        return BuildFailed(f"{step}: the disk of {LAYERS} is full", hint=f"free disk space: df -h {LAYERS}")
    if exit_status == words.EX_FULL and ours:
        return BuildFailed(
            f"{step}: {ours[-1]}", hint="write less to the disk, or increase layer_size in [images] of flyted.toml"
        )
    if not ours:
        return BuildFailed(f"{step}: {printable(result)}, exit status {exit_status}")
    message = ours[-1] if ours[-1].startswith(step) else f"{step}: {ours[-1]}"
    if exit_status != words.EX_STEP:
        return BuildFailed(message)
    last = [f"  {plain(line)}" for line in output if line.strip() and not line.startswith(words.OURS)]
    return BuildFailed("\n".join([message, *last[-_SHOWN_LINES:]]), hint=_NO_ROOM if full else _hint(step, last))


def located(where: str, failure: BuildFailed) -> BuildFailed:
    """Return the error with the place of the layer that failed: the place that it has in the image of whoever waits.

    ``where``: as in :class:`~flyted.plan.images.root.Run`; what follows the line of a Dockerfile is in the step.
    """
    place = _INSTRUCTION.sub("", where)
    return BuildFailed(f"{place}: {failure.message}", hint=failure.hint) if place else failure


def _time(seconds: int) -> str:
    return f"{seconds // 60} minutes" if seconds >= 120 else f"{seconds} seconds"


def _size(size: int) -> str:
    return f"{size >> 30} GiB" if size >= 1 << 30 else f"{size >> 20} MiB"


def _hint(step: str, output: list[str]) -> str:
    """Return what to do about a command that failed and that may be one of the SDK's, which the user never wrote."""
    if any(_NO_UV.search(line) for line in output):  # ld.so is what is not found
        return "uv needs glibc, which this image lacks: use an image based on Debian, or Image.from_dockerfile"
    if step.startswith("uv python install"):
        return (
            "Debian bookworm has Python 3.11 itself: python_version=(3, 11); another one is downloaded, from "
            "UV_PYTHON_INSTALL_MIRROR if images.environment in flyted.toml has that"
        )
    return "the steps before it are kept"


def split_size(line: str) -> tuple[str, int | None]:
    """Return a line without what it says of the layer's size, and that size in bytes; ``None``: it says nothing of it.

    The last line of a unit that ended well says it, behind what a step has printed without an end of line.
    """
    found = words.TAKES.search(line)
    return (line[: found.start()], int(found[1])) if found and line.endswith(found[0]) else (line, None)


def _checked(layer: str) -> str:
    """Return the id, so that no other text becomes a path or a unit's name. A ``ValueError`` is a fault of ours."""
    if words.LAYER.fullmatch(layer) is None:
        raise ValueError(layer)
    return layer


def _egress(layer: str) -> dict[str, Any]:
    """Return the properties that give the unit a network like an app's, which is there before the step begins."""
    net = f"flyted-net@layer-{layer}.service"
    return {"JoinsNamespaceOf": [net], "Wants": [net, EGRESS_UNIT], "After": [net]}


def _common(
    description: str, options: list[str], settings: LayerSettings, files: list[str], *, network: bool
) -> dict[str, Any]:
    common = python_unit(
        description,
        [PROGRAM, *options],
        variables("/usr/sbin:/usr/bin:/sbin:/bin", settings.environment),
        tag="flyted-layer",
        memory_max=settings.memory_max,
        tasks_max=settings.tasks_max,
        output_fd=settings.output_fd,
        runtime_max_s=settings.runtime_max_s,
    )
    return {
        **common,
        "OOMPolicy": "kill",
        **_sandbox(network=network),
        **_view(settings, files, network=network),
    }


def _sandbox(*, network: bool) -> dict[str, Any]:
    """Return an app's sandbox, less what would keep the program from entering its namespace.

    ``ProtectKernelTunables=`` and ``ProtectKernelLogs=`` cover parts of /proc, and the kernel then refuses another one
    ("mount too revealing"). The program covers the same parts of the step's.
    """
    own = sandbox(Network.OWN if network else Network.NONE)
    for name in ("PrivateUsers", "RestrictSUIDSGID", "ProtectHostname", "ProtectKernelTunables", "ProtectKernelLogs"):
        del own[name]
    return {
        **own,
        "AppArmorProfile": (True, PROFILE),  # if there is one
        "CapabilityBoundingSet": _SETGID | _SETUID,
        "AmbientCapabilities": _SETGID | _SETUID,
        "RestrictNamespaces": _NAMESPACES,
        "SystemCallFilter": [
            (True, ["@system-service", "@mount", "chroot", "unshare", "sethostname"]),
            (False, ["@debug", "@module", "@raw-io", "@reboot", "@swap", "@clock", "@cpu-emulation", "@keyring",
                     "@obsolete", "bpf", "perf_event_open", "io_uring_setup", "io_uring_enter", "io_uring_register",
                     "userfaultfd", "setns"]),
        ],
    }  # fmt: skip


def _view(settings: LayerSettings, files: list[str], *, network: bool) -> dict[str, Any]:
    """Return the properties that hide flyted's state but for the layers and ``files``, and almost all of /run."""
    stub = network and bool(set(settings.nameservers) & set(STUB_RESOLVERS))
    run = little_of_run(() if stub else RESOLVERS)
    binds = [*run["BindReadOnlyPaths"], *((path, path, False, 0) for path in files)]
    if stub:  # the machine's resolver is on the machine's loopback, which is not the step's
        binds.append((RESOLVER, "/etc/resolv.conf", False, 0))
    return {
        "TemporaryFileSystem": [*run["TemporaryFileSystem"], (STATE, "ro,mode=755")],
        "BindPaths": [(LAYERS, LAYERS, False, 0)],
        "BindReadOnlyPaths": binds,
    }
