"""Reads and checks the loader's answer. The loader runs the user's code, so none of it is trusted."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any, Self

from flyted.contract.errors import (
    FlytedError,
    InvalidInput,
    PackageMissing,
    SdkMissing,
    SdkUnfit,
    Unsupported,
    UserCodeFailed,
)

VERSION = 1
LARGEST_DOCUMENT = 4 * 2**20  # bytes
LARGEST_BUNDLE = 256 * 2**20  # bytes, compressed; all bundles of a file together
MOST_APPS = 64
MOST_TASKS = 4096
MOST_BUNDLES = 512  # each is a descriptor
KINDS = frozenset({"fastapi", "app", "vllm", "sglang"})
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@dataclass(frozen=True)
class LoadedApp:
    """An app environment. ``idl`` is Flyte's app.App, ``image`` its ImageSpec, both in protobuf-JSON.

    ``image_folders``: path in the ImageSpec → SHA-256 of the bundle with what is there.
    ``bundles``: SHA-256 → a sealed memory file with a tar.gz, at offset 0: of its code, whose SHA-256 is
    ``bundle_sha256`` ("" without code), and of each of ``image_folders``. Several apps may share one.
    ``server``: whether it has a server function (FastAPI, ``@env.server``). ``variable`` is "" if no variable holds
    it.
    """

    variable: str
    idl: dict[str, Any]
    image: dict[str, Any] | None
    image_files: dict[str, str]
    image_folders: dict[str, str]
    depends_on: tuple[str, ...]
    kind: str
    server: bool
    bundle_sha256: str
    bundles: dict[str, int]

    @property
    def name(self) -> str:
        """The app's name. The SDK has checked it, but only the daemon's check counts."""
        return str(self.idl["metadata"]["id"]["name"])

    @property
    def bundle_fd(self) -> int | None:
        """The file with its code, ``None`` without code."""
        return self.bundles.get(self.bundle_sha256)


@dataclass(frozen=True)
class Loaded:
    """The apps of a file, dependencies first. Close it, or use it in ``with``: it holds descriptors.

    ``tasks``: the names of tasks on which the apps depend, and which are not deployed.
    """

    apps: tuple[LoadedApp, ...]
    root: str
    python: str
    executable: str
    sdk: str
    tasks: tuple[str, ...] = ()
    fds: tuple[int, ...] = field(default=(), repr=False)

    def close(self) -> None:
        """Close the bundles' memory files, which frees their memory."""
        for fd in self.fds:
            with contextlib.suppress(OSError):
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class _Bundle:
    fd: int
    sha256: str
    size: int


def read(document_fd: int, bundles_fd: int) -> Loaded:
    """Return the answer in two memory files, copied and checked.

    Raise the error that the loader reported (see :func:`reported`), UserCodeFailed if the answer is malformed,
    InvalidInput if the file has more than ``MOST_APPS`` apps.
    """
    document = _document(document_fd)
    if "error" in document:
        raise reported(document["error"])
    _expect(document.get("v") == VERSION, "its version")
    _check_number(document.get("apps"))
    bundles: list[_Bundle] = []
    try:
        for entry in _list(document, "bundles", MOST_BUNDLES):
            room = LARGEST_BUNDLE - sum(bundle.size for bundle in bundles)
            bundles.append(_bundle(entry, bundles_fd, room))
        apps = tuple(_app(entry, bundles) for entry in _list(document, "apps", MOST_APPS))
        _expect(len(apps) > 0, "no apps")
        _expect({d for a in apps for d in a.depends_on} <= {a.name for a in apps}, "depends_on")
        tasks = _list(document, "tasks", MOST_TASKS)
        _expect(all(isinstance(task, str) for task in tasks), "tasks")
        root, python, executable, sdk = (_text(document, key) for key in ("root", "python", "executable", "sdk"))
    except BaseException:
        for bundle in bundles:
            os.close(bundle.fd)
        raise
    return Loaded(apps, root, python, executable, sdk, tuple(tasks), tuple(bundle.fd for bundle in bundles))


def reported(error: Any) -> FlytedError:
    """Return the loader's error as one of ours. Raise UserCodeFailed if it is malformed."""
    _expect(isinstance(error, dict), "error")
    kind, message, hint, trace, module = (
        _text(error, key) for key in ("kind", "message", "hint", "traceback", "module")
    )
    if kind == "unsupported":
        return Unsupported(message, hint=hint)
    if kind == "no-sdk":
        return SdkMissing(message, hint=hint)
    if kind == "sdk":
        return SdkUnfit(message, hint=hint)
    if kind == "missing-module":
        return PackageMissing(message, hint=hint, traceback=trace, module=module)
    return UserCodeFailed(message, hint=hint, traceback=trace)


def _document(fd: int) -> dict[str, Any]:
    size = os.fstat(fd).st_size
    _expect(0 < size <= LARGEST_DOCUMENT, f"{size} bytes")
    try:
        document = json.loads(os.pread(fd, size, 0), parse_constant=_refuse, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _nonsense(str(error)) from error
    _expect(isinstance(document, dict), "no object")
    return dict(document)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a duplicate key")
    return result


def _app(entry: Any, bundles: list[_Bundle]) -> LoadedApp:
    _expect(isinstance(entry, dict), "app")
    idl, image, files = entry.get("idl"), entry.get("image"), entry.get("image_files")
    _expect(isinstance(idl, dict), "idl")
    _expect(image is None or isinstance(image, dict), "image")
    _expect(isinstance(files, dict) and all(isinstance(text, str) for text in files.values()), "image_files")
    folders, digests = entry.get("image_folders"), {bundle.sha256 for bundle in bundles}
    _expect(isinstance(folders, dict) and all(digest in digests for digest in folders.values()), "image_folders")
    place: Any = idl
    for step in ("metadata", "id", "name"):
        _expect(isinstance(place, dict), "name")
        place = place.get(step)
    _expect(isinstance(place, str), "name")
    _expect(_text(entry, "kind") in KINDS, "kind")
    _expect(isinstance(entry.get("server"), bool), "server")
    depends = _list(entry, "depends_on", MOST_APPS)
    _expect(all(isinstance(other, str) for other in depends), "depends_on")
    bundle = _bundle_of(entry, bundles)
    named = {*folders.values(), *([bundle.sha256] if bundle else [])}
    return LoadedApp(
        _text(entry, "variable"),
        idl,
        image,
        files,
        folders,
        tuple(depends),
        entry["kind"],
        entry["server"],
        bundle.sha256 if bundle else "",
        {each.sha256: each.fd for each in bundles if each.sha256 in named},
    )


def _bundle_of(entry: dict[str, Any], bundles: list[_Bundle]) -> _Bundle | None:
    index = entry.get("bundle")
    if index is None:
        return None
    _expect(_whole(index) and index < len(bundles), "bundle")
    return bundles[int(index)]


def _bundle(entry: Any, source: int, room: int) -> _Bundle:
    """Return a sealed copy of one bundle, out of reach of the user's programs; the digest is the copy's."""
    _expect(isinstance(entry, dict), "bundle")
    offset, size, wanted = entry.get("offset"), entry.get("size"), entry.get("sha256")
    _expect(_whole(size) and 0 < size <= room, "the size of a bundle")
    _expect(_whole(offset) and offset <= os.fstat(source).st_size, "the place of a bundle")
    fd = os.memfd_create("bundle.tar.gz", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        digest = hashlib.sha256()
        left = size
        while left:
            chunk = os.pread(source, min(left, 1 << 20), offset)
            _expect(len(chunk) > 0, "a truncated bundle")
            digest.update(chunk)
            os.write(fd, chunk)
            offset, left = offset + len(chunk), left - len(chunk)
        _expect(digest.hexdigest() == wanted, "the digest of a bundle")
        os.lseek(fd, 0, os.SEEK_SET)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(fd)
        raise
    return _Bundle(fd, digest.hexdigest(), size)


def _check_number(apps: object) -> None:
    """Raise InvalidInput if there are more than ``MOST_APPS`` apps: a well-formed answer may have more."""
    if isinstance(apps, list) and len(apps) > MOST_APPS:
        raise InvalidInput(
            f"the file has {len(apps)} apps; at most {MOST_APPS} can be served at once",
            hint="serve one of them with its dependencies: flytectl serve FILE ENV",
        )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _list(source: dict[str, Any], key: str, most: int) -> list[Any]:
    value = source.get(key)
    _expect(isinstance(value, list) and len(value) <= most, key)
    return list(value or [])


def _text(source: dict[str, Any], key: str) -> str:
    value = source.get(key)
    _expect(isinstance(value, str), key)
    return str(value)


def _expect(fine: bool, what: str) -> None:  # noqa: FBT001 -- reads like an assertion
    if not fine:
        raise _nonsense(what)


def _nonsense(what: str) -> FlytedError:
    return UserCodeFailed(
        f"importing the file returned a malformed answer ({what})",
        hint="perhaps the file writes to descriptors that it did not open, or exits",
    )
