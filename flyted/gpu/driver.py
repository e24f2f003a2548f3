"""Finds the files of NVIDIA's driver that programs need: by a CDI spec, else by what ldconfig(8) knows.

Both name files of one version of the driver, so nothing is kept from one request to the next but what was read of
files that are unchanged. A spec that lists libraries which are not there is of an earlier version, and does not count.

Specs are root's, and are checked all the same: this process has no rights, the daemon reads none of them.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import cdi, elf

FOLDERS = (Path("/etc/cdi"), Path("/run/cdi"))
"""Of specs, the least important first (SPEC.md). The second is /var/run/cdi."""
PROGRAMS = ("nvidia-smi", "nvidia-debugdump", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server")
LDCONFIG = "ldconfig"
_CACHE = Path("/etc/ld.so.cache")
_SUFFIXES = {".json", ".yaml", ".yml"}
_LARGEST = 1 << 20  # bytes; one of eight GPUs has some 30 KiB
_LARGEST_ANSWER = 1 << 19  # flyted reads no line of more than twice as much
_MOST_FILES = 32
_MOST_PROBLEMS = 8
_OURS = re.compile(
    r"lib(?:cuda|cudadebugger|nvcuvid|nvoptix|nvidia-(?!container)[a-z0-9-]+|[A-Za-z0-9]+_nvidia)\.so[0-9.]*"
)
"""The libraries of the driver; those of the container toolkit are none."""
_LINE = re.compile(r"\s*(\S+) \(([^)]*)\) => (/\S+)")
_FLAGS = {"x86_64": "x86-64", "aarch64": "AArch64"}
_LIBRARY = re.compile(r"\.so(?:\.|$)")

Data = dict[str, Any]
_Key = tuple[int, int, int]
_NOTHING: Data = {"source": "", "found": [], "links": [], "environment": [], "notes": []}


@dataclass
class Driver:
    """The search, with the specs that were read before. ``machine``: the processor, as uname(1) names it."""

    folders: tuple[Path, ...] = FOLDERS
    machine: str = field(default_factory=lambda: os.uname().machine)
    owner: int = 0  # of specs
    _read: dict[Path, tuple[_Key, cdi.Spec | str | None]] = field(default_factory=dict)
    _listed: tuple[_Key, str] = ((0, 0, 0), "")

    def files(self) -> Data:
        """Return the driver's files as plain data; what is wrong becomes data, too.

        ``source``: the spec, "ldconfig", or "" if nothing was found. ``found``: [place in a container, file here,
        soname]. ``links``: [target, place]. ``environment``: [name, value].
        """
        problems = list[str]()
        answer = self._by_spec(problems) or self._by_ldconfig(problems)
        if len(json.dumps(answer)) > _LARGEST_ANSWER:
            problems.insert(0, f"{answer['source']} lists too many files")
            answer = _NOTHING
        return {**answer, "problems": [_printable(each)[:250] for each in problems[:_MOST_PROBLEMS]]}

    def _by_spec(self, problems: list[str]) -> Data | None:
        specs, conflicts = cdi.chosen([list(self._specs(folder, problems)) for folder in self.folders])
        problems += conflicts
        places: dict[str, str] = {}
        for spec in specs:
            for here, place in spec.mounts:
                places.setdefault(place, here)
        lost = [here for here in places.values() if _LIBRARY.search(here) and not Path(here).exists()]
        if lost:
            problems.append(f"{specs[0].file} lists {lost[0]!a}, which does not exist: it belongs to another driver")
            return None
        found = list(self._found(places.items(), problems))
        if not found:
            return None
        return {
            "source": specs[0].file,
            "found": found,
            "links": [list(link) for spec in specs for link in spec.links],
            "environment": [list(pair) for spec in reversed(specs) for pair in spec.environment],
            "notes": [note for spec in specs for note in spec.notes][:_MOST_PROBLEMS],
        }

    def _by_ldconfig(self, problems: list[str]) -> Data:
        names = {place: path for place, path in self._cached(problems) if _OURS.fullmatch(place)}
        places = [(path, path) for path in names.values()]
        places += [(path, path) for name in PROGRAMS if os.access(path := f"/usr/bin/{name}", os.X_OK)]
        found = list(self._found(places, problems))
        return {**_NOTHING, "source": LDCONFIG if found else "", "found": found}

    def _cached(self, problems: list[str]) -> Iterator[tuple[str, str]]:
        """Yield name and path of each library of this processor that the linker's cache has."""
        try:
            key = _key(_CACHE.stat())
            if key != self._listed[0]:
                done = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, timeout=10, check=True)
                self._listed = key, done.stdout
        except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
            problems.append(f"ldconfig -p failed: {error}")
            return
        for line in self._listed[1].splitlines():
            found = _LINE.fullmatch(line)
            if found and _FLAGS.get(self.machine, "?") in found[2]:
                yield found[1], found[3]

    def _found(self, places: Iterable[tuple[str, str]], problems: list[str]) -> Iterator[list[str]]:
        """Yield each file that is there: its place, its path without links, and its soname if it is a library."""
        for place, here in places:
            real = Path(os.path.realpath(here))
            if not str(real).isprintable():
                continue
            if not _LIBRARY.search(place):
                if real.is_file():
                    yield [place, str(real), ""]
                continue
            try:
                library = elf.library(real)
            except (OSError, ValueError) as error:
                problems.append(f"{str(real)!a} cannot be used: {error}")
                continue
            if library.machine == self.machine:
                yield [place, str(real), library.soname]

    def _specs(self, folder: Path, problems: list[str]) -> Iterator[cdi.Spec]:
        try:
            paths = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
        except OSError:  # mostly there is none
            return
        for path in paths[:_MOST_FILES]:
            spec = self._spec(path)
            if isinstance(spec, cdi.Spec):
                yield spec
            elif spec is not None:
                problems.append(f"{path} {spec}")

    def _spec(self, path: Path) -> cdi.Spec | str | None:
        """Return what a file says, or why it does not count; ``None`` if it is about other devices."""
        try:
            key = _key(path.stat())
            before, known = self._read.get(path, (None, None))
            if before == key:
                return known
            spec: cdi.Spec | str | None = cdi.spec_of(str(path), _content(path, self.owner))
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        except RecursionError:
            spec = "nests too deeply"
        except ValueError as error:
            spec = " ".join(str(error).split())[:200]
        self._read[path] = (key, spec)
        return spec


def _key(status: os.stat_result) -> _Key:
    """Return what is another one as soon as a file is."""
    return status.st_ino, status.st_mtime_ns, status.st_size


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _content(path: Path, owner: int) -> object:
    """Return what is in a spec. Raises ``OSError``, and ``ValueError`` for one that is not to be trusted or read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a file")
        if status.st_uid != owner or status.st_mode & 0o022:
            raise ValueError("can be changed by users other than root")
        text = file.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise ValueError("is larger than 1 MiB")
    if path.suffix == ".json":
        return json.loads(text)
    return _yaml(text)


def _yaml(text: bytes) -> object:
    try:
        import yaml  # noqa: PLC0415  most machines have no spec, or one in JSON
    except ImportError:
        raise ValueError("is YAML, and python3-yaml is not installed") from None
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(text, loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, TypeError, AttributeError) as error:
        raise ValueError(f"is not YAML: {error}") from None
