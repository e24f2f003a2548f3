"""Refuses apps that cannot run in the root of an image at their deploy, with a hint at what to write instead. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.fserve import split
from flyted.contract.names import Replica, printable
from flyted.launch.words import LOADERS
from flyted.plan.facts import Place, Platform, RootFact
from flyted.plan.images.root_mount import APPENDS, HOMES, LONGEST, options
from flyted.plan.images.root_script import BECOMES, SHELLS

_BETWEEN = re.compile(r"[;&|\n(]")
_COMMAND = re.compile(r"\s*(?:exec\s+)?([A-Za-z0-9/._-]+)")
_FOLDER = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._@+-]+)+")
_TAKEN = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/tmp", "/usr", "/var",  # noqa: S108
          *HOMES)  # fmt: skip
"""HOMES: with ``ProtectSystem=strict``, systemd makes a file system in their place read-only, or none (tried)."""
_MOUNTED = ("/usr/lib/flyted", "/var/lib/flyted", "/var/lib/private", "/var/cache/flyted", "/var/cache/private")
"""Where an app's root has folders of the machine: its /usr, and what the app keeps."""
_BELOW_TAKEN = ("/dev/", "/proc/", "/sys/", "/run/credentials/", "/run/flyted/", "/run/systemd/", "/etc/flyte/",
                *_MOUNTED)  # fmt: skip
_FOLDERS = ("/dev", "/etc", "/proc", "/sys", "/tmp", "/usr", "/usr/lib", "/var", "/var/cache", "/var/lib", "/var/tmp")  # noqa: S108
"""What systemd mounts in an app's root, or makes mount points in. Each may be a link to a folder, or to nothing."""
_MOUNT_POINTS = (
    "/data", "/dev/shm", "/etc/flyte/secrets", "/run", "/usr/lib/flyted/flyted/launch",  # noqa: S108
    "/usr/lib/flyted/host", "/usr/lib/flyted/nvidia",
)  # fmt: skip
"""Where all apps have something mounted, besides these and :data:`_FILES`."""
_OWN_FOLDERS = ("/run",)
"""What may be no link at all (measured with systemd 257: 226/NAMESPACE)."""
_FILES = ("/etc/hosts", "/etc/resolv.conf")
"""What the machine's files are mounted on."""
_LONGEST_SERVER = Replica("a" * 63, 999_999_999, 9999)


def check(spec: AppSpec, root: RootFact, platform: Platform) -> None:
    """Raise :class:`InvalidInput` or :class:`Unsupported` for an app that cannot run in this root."""
    if platform.architecture not in LOADERS:
        raise Unsupported(
            f"not supported on {platform.architecture}: the image of app '{spec.key}', "
            "which has its own root file system",
            hint="use an image of pip packages",
        )
    if spec.gpu_count and root.musl:
        raise Unsupported(
            f"not supported: GPUs for app '{spec.key}', whose image has musl as its C library (Alpine): "
            "NVIDIA's driver needs glibc",
            hint="use an image of Debian, Ubuntu or another Linux with glibc as the base, or --cpu",
        )
    _check_layers(spec, root, platform)
    _check_folders(spec, root)
    _check_program(spec, root)


def check_places(what: str, layers: Sequence[str], place: Callable[..., Place]) -> None:
    """Raise :class:`Unsupported` for an image in which systemd could not put an app: it would end with 226/NAMESPACE.

    ``what``: the image's name, for people. ``place``: what is at a path; without ``links`` a link counts as a file.
    """
    if not layers:
        raise Unsupported(
            f"{what} is empty: it has no layers, and so no program", hint="use an image with a program in it"
        )
    found = {path: place(path) for path in (*_FOLDERS, *_FILES)}
    found |= {path: place(path, links=False) for path in _OWN_FOLDERS}
    for path, there in found.items():
        wanted = Place.FILE if path in _FILES else Place.FOLDER
        if there not in (wanted, Place.NOTHING):
            raise Unsupported(
                f"{what} cannot be run: {path} in it is {there.value}, and has to be {wanted.value.split(' or ')[0]}",
                hint="use another image as its base",
            )


def check_links(spec: AppSpec, folders: Sequence[str], leads_to: Callable[[str], str]) -> None:
    """Raise :class:`Unsupported` for an image in which a link leads from a mount point into the machine's folders.

    PID 1 makes a mount point that is not there, as root and wherever links lead: in the machine's /usr, or through a
    link that the app has put into its own folder, anywhere (tried with systemd 257). ``folders``: the mount points of
    this app, besides those of all. ``leads_to``: where a path leads in the image.
    """
    for path in (*folders, *_FOLDERS, *_FILES, *_MOUNT_POINTS):
        where = leads_to(path)
        if not where or (where != path and where.startswith(_MOUNTED)):
            raise Unsupported(
                f"the image of app '{spec.key}' cannot be run: {path} in it is a link to {printable(where or path)}",
                hint="use another image as its base, or another folder for the VOLUME",
            )


def check_python(spec: AppSpec, old: str) -> None:
    """Raise :class:`InvalidInput` for a server function that would be built on a Python that is too old for it.

    ``old``: the version of the Python of the image's base, if launch cannot run on it.
    """
    head, args = split(spec.command)
    if old and head and not args:
        raise InvalidInput(
            f"the image of app '{spec.key}' has Python {old}, and its server function needs 3.10 or newer",
            hint="Image.from_debian_base(python_version=(3, 12))",
        )


def _check_layers(spec: AppSpec, root: RootFact, platform: Platform) -> None:
    if platform.kernel < APPENDS and len(options(_LONGEST_SERVER, root.layers, platform.kernel)) > LONGEST:
        raise InvalidInput(
            f"the image of app '{spec.key}' has {len(root.layers)} layers, more than this kernel can mount",
            hint="join steps of the image into fewer, or use Linux 6.8 or newer",
        )


def _check_folders(spec: AppSpec, root: RootFact) -> None:
    for folder in root.volumes:
        if not is_volume(folder):
            raise InvalidInput(
                f"volume {printable(folder)} of the image of app '{spec.key}' cannot be made writable",
                hint="use another folder, such as /data; the app can always write to $HOME, /tmp and /run",
            )
    if root.workdir and not root.workdir.startswith("/"):
        raise InvalidInput(
            f"the working folder {printable(root.workdir)} of the image of app '{spec.key}' is not an absolute path",
            hint="use a path such as /app",
        )


def is_volume(folder: str) -> bool:
    """Report whether a folder of the root can be covered by a writable one."""
    return _FOLDER.fullmatch(folder) is not None and folder not in _TAKEN and not folder.startswith(_BELOW_TAKEN)


def _check_program(spec: AppSpec, root: RootFact) -> None:
    head, args = split(spec.command)
    if head and not args and not root.python:
        raise InvalidInput(
            f"the image of app '{spec.key}' has no Python 3.10 or newer, which its server function needs",
            hint="add one to the image, with flyte installed, or name a program of the image: command=[...]; "
            "command=[] is the image's own (ENTRYPOINT, CMD)",
        )
    for name in _programs(list(spec.command), args if head else []):
        if _last(name) in BECOMES:
            raise InvalidInput(
                f"app '{spec.key}' runs {printable(_last(name))}, which needs root: "
                "an app does not run as a user of its image and cannot become one",
                hint="name the program that it finally starts: command=[...]; folders that it has to write to "
                "have to be a VOLUME of the image",
            )


def _programs(command: list[str], args: list[str]) -> list[str]:
    """Return the program of a command; of a line for a shell, each program in it. ``args``: those of fserve."""
    if args:
        return _in_line(" ".join(args))
    if not command:
        return []
    if _last(command[0]) in SHELLS and "-c" in command[1:-1]:
        return _in_line(command[command.index("-c") + 1])
    return command[:1]


def _in_line(line: str) -> list[str]:
    """Return each program in a line for a shell."""
    return [found[1] for part in _BETWEEN.split(line) if (found := _COMMAND.match(part))]


def _last(path: str) -> str:
    return path.rpartition("/")[2]
