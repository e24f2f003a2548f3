"""Sees to it that an app's image is there: found by hash, or built by a unit of its own whose output streams out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import platform
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput, StoreCorrupt
from flyted.contract.names import label
from flyted.daemon.verbs import Call, Right, Verb
from flyted.host.units import Units
from flyted.plan.build_unit import image_dir, loopback_nameservers, unit_name
from flyted.plan.facts import ImageFact
from flyted.plan.images import (
    BuildSettings,
    ImageRecord,
    Machine,
    Recipe,
    build_failure,
    build_unit,
    env_of,
    recipe_from_spec,
    recipe_hash,
    record_of,
)

Emit = Callable[..., Awaitable[None]]
_LINE_LIMIT = 4096
_OUTPUT_LINES = 200
_HOMES = ("/home/", "/root/", "/run/user/")


@dataclass(frozen=True)
class Images:
    """The images of this machine."""

    units: Units
    folder: Path
    environment: dict[str, str]
    building: dict[str, asyncio.Lock] = field(default_factory=dict)  # by the image's hash

    async def ensure(self, spec: AppSpec, emit: Emit) -> ImageFact:
        """The image of an app, built if need be.

        Raises :class:`Unsupported` or :class:`InvalidInput` for recipes that cannot be, :class:`BuildFailed` when a
        build failed.
        """
        if spec.python_env:
            return _given(spec.python_env)
        return await self.build(_recipe(spec.image), f"the image of {spec.key}", emit)

    def check(self, spec: AppSpec) -> None:
        """Raises what :meth:`ensure` would before it begins to build."""
        if spec.python_env:
            _given(spec.python_env)
        else:
            _recipe(spec.image)

    def verbs(self) -> dict[str, Verb]:
        """The rows of the verb table."""
        wanted: dict[str, type] = {"project": str, "domain": str, "image": dict}
        return {"image.build": Verb(Right.OPERATE, wanted, self.build_verb)}

    async def build_verb(self, call: Call) -> dict[str, Any]:
        """Builds an image ahead of the app that will use it; what uv says streams as events."""
        for kind in ("project", "domain"):
            label(call.args[kind], kind)
        recipe = _recipe(call.args["image"])
        await call.emit("accepted", text="checked the image")
        return {"image": (await self.build(recipe, "the image", call.emit)).to_dict()}

    async def build(self, recipe: Recipe, what: str, emit: Emit) -> ImageFact:
        """The image of a recipe, built if need be. Raises :class:`BuildFailed`."""
        digest = recipe_hash(recipe, machine())
        # two that ask for one image at a time would ask systemd for one unit twice
        async with self.building.setdefault(digest, asyncio.Lock()):
            return await self._built(recipe, digest, what, emit)

    async def _built(self, recipe: Recipe, digest: str, what: str, emit: Emit) -> ImageFact:
        record = self._record(digest)
        if record is None:
            await emit("progress", text=f"building {what}")
            settings = BuildSettings(
                environment=self.environment, addresses=loopback_nameservers(_text(Path("/etc/resolv.conf")))
            )
            others = [p.name for p in self.folder.iterdir() if self._record(p.name)] if self.folder.is_dir() else []
            async with _output(emit) as (pipe, lines):
                properties = build_unit(digest, recipe, dataclasses.replace(settings, output_fd=pipe), others)
                end = await self.units.run_transient(unit_name(digest), properties)
            record = self._record(digest)
            if record is None:
                raise build_failure(end.result, end.status, lines)
        if record.note:
            await emit("note", text=record.note)
        path = image_dir(digest)
        return ImageFact(path, digest, record.python, record.python_asked, record.note, env_of(recipe, path))

    def present(self, image: ImageFact) -> bool:
        """Whether an image that a revision was made with is still complete."""
        return self._record(image.hash) is not None if image.hash else Path(image.path, "bin/python").exists()

    def _record(self, digest: str) -> ImageRecord | None:
        try:
            return record_of((self.folder / digest / "image.json").read_text("utf-8"))
        except (OSError, StoreCorrupt, UnicodeDecodeError):
            return None


def machine() -> Machine:
    """What compiled packages and links to the system's Python depend on here."""
    python = Path("/usr/bin/python3").resolve().name.removeprefix("python")
    return Machine(platform.machine(), " ".join(platform.libc_ver()), python)


@contextlib.asynccontextmanager
async def _output(emit: Emit) -> AsyncIterator[tuple[int, deque[str]]]:
    """A pipe for a unit's output; each line goes out as an event, the last ones are kept."""
    lines: deque[str] = deque(maxlen=_OUTPUT_LINES)
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE_LIMIT, loop=loop)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb"))

    async def pump() -> None:
        while line := await _line(reader):
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            lines.append(text)
            await emit("build", text=text)

    pumping = asyncio.create_task(pump())
    try:
        yield writing, lines
    finally:
        os.close(writing)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pumping, 5)  # a stray child of the build may hold the pipe open
        transport.close()


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:  # longer than the limit: dropped, asyncio has emptied its buffer
        return b"...\n"


def _recipe(image: dict[str, Any]) -> Recipe:
    """The recipe in an app's or a client's words. Raises :class:`InvalidInput` or :class:`Unsupported`."""
    spec, files = image.get("spec"), image.get("files") or {}
    if not isinstance(spec, dict) or not isinstance(files, dict):
        raise InvalidInput("an image must have a spec and files, both maps")
    return recipe_from_spec(spec, files)


def _given(path: str) -> ImageFact:
    if path.startswith(_HOMES):
        raise InvalidInput(
            f"apps do not see home folders, so {path} cannot be their environment",
            hint=f"make one elsewhere: sudo python3 -m venv /opt/{Path(path).name}",
        )
    python = Path(path, "bin/python")
    if not python.exists():
        raise InvalidInput(f"{path} is not a Python environment that every user may read: no {python}")
    return ImageFact(path=path, note=f"environment {path}, as given")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
