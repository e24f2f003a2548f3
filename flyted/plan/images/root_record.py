"""Reads and writes the records of root images and of their layers. Pure.

An image's record is written when all its layers are, and a layer's when its unit has ended: what has no record is not
whole. flyted wrote them, so what is not as it writes them is damaged.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flyted.contract.errors import StoreCorrupt
from flyted.contract.names import printable
from flyted.launch.words import LOADERS
from flyted.layers.words import FORMAT, LAYER
from flyted.plan.facts import ImageFact, RootFact
from flyted.plan.images.canonical import canonical, digest
from flyted.plan.images.root import ImageConfig, LayerJob, RootPlan, RootRecipe, on_path
from flyted.plan.images.text import is_text

_PYTHON = re.compile(r"python3\.(\d{1,2})[a-z]?")
_OLDEST = 10  # Python 3.10: launch's


@dataclass(frozen=True)
class RootRecord:
    """A root image. ``digests``: name of each container image that it is made from → the manifest's digest.

    ``own``: its folders that apps can write to, because of whose they are in it. ``musl``, ``data``: as in
    :class:`RootFact`. ``keys``: as in :class:`~flyted.plan.images.root.RootPlan`.
    """

    hash: str
    layers: tuple[str, ...]  # lowest first
    config: ImageConfig = field(default_factory=ImageConfig)
    python: str = ""  # the path of a Python of the image that launch can run on; "": none
    version: str = ""  # of it: "3.12"
    notes: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    built_at: float = 0.0
    own: tuple[str, ...] = ()
    musl: bool = False
    keys: tuple[str, ...] = ()
    data: bool = False

    def image(self) -> ImageFact:
        """Return the image for revisions."""
        root = RootFact(
            self.layers, self.python, self.config.workdir, (*self.config.volumes, *self.own), self.config.entrypoint,
            self.config.cmd, tuple(sorted(self.digests.items())), self.musl, self.data,
        )  # fmt: skip
        note = "; ".join(self.notes)
        return ImageFact("", self.hash, self.version, "", note, self.config.env, self.built_at, root=root)


def recipe_key(recipe: RootRecipe, arch: str) -> str:
    """Return 32 hex digits, equal for equal recipes: two who ask for one at a time wait for one build."""
    return digest(["recipe", FORMAT, arch, repr(recipe)])


def root_hash(plan: RootPlan) -> str:
    """Return 32 hex digits, equal for images of the same layers that are run in the same way."""
    return digest(["image", FORMAT, plan.layers, asdict(plan.config)])


def root_text(record: RootRecord) -> str:
    """Return the record as it is written."""
    return canonical({"format": FORMAT, **asdict(record)})


def root_record(text: str) -> RootRecord:
    """Return the record in a text. Raises :class:`StoreCorrupt` if it is not as :func:`root_text` writes it."""
    try:
        data = json.loads(text)
        known = data.pop("format") == FORMAT
        config = ImageConfig(**{name: _tuples(value) for name, value in data.pop("config").items()})
        record = RootRecord(config=config, **{name: _tuples(value) for name, value in data.items()})
        sound = _is_sound(record)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreCorrupt(f"the record of an image is not readable: {printable(str(error))}") from error
    if not known or not all(LAYER.fullmatch(each) for each in record.layers):
        raise StoreCorrupt("the record of an image has an unknown format")
    if not sound:
        raise StoreCorrupt("the record of an image contains text that no program can be given")
    return record


def _is_sound(record: RootRecord) -> bool:
    """Report whether all texts are such as are accepted today: what an earlier version recorded may not be."""
    config = record.config
    in_one_line = (record.hash, record.python, record.version, *record.own, *record.keys, config.user, config.workdir)
    names = (*in_one_line, *config.ports, *config.volumes)
    others = (*config.entrypoint, *config.cmd, *record.notes, *record.digests, *record.digests.values())
    texts = (*others, *(each for pair in config.env for each in pair))
    return all(is_text(each) for each in (*names, *texts)) and all(each.isprintable() for each in names)


@dataclass(frozen=True)
class LayerRecord:
    """A layer. ``show``: what made it, for people; ``bytes``: of the disk, 0: not known."""

    show: str = "?"
    took_s: float = 0.0
    bytes: int = 0


def layer_text(job: LayerJob, record: LayerRecord, made_at: float) -> str:
    """Return the record of a layer as it is written. ``made_at``: seconds since 1970."""
    about = {"format": FORMAT, "layer": job.id, "parents": job.parents, "made_at": made_at}
    return canonical({**about, **asdict(record)})


def layer_record(text: str) -> LayerRecord:
    """Return the record in a text; what is not known of a layer in it is left at its default."""
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        data = json.loads(text)
        return LayerRecord(str(data["show"]), float(data["took_s"]), int(data.get("bytes", 0)))
    return LayerRecord()


def pythons(config: ImageConfig) -> tuple[str, ...]:
    """Return where the image's Python may be, the likeliest first: its environment's, then those on its path."""
    env = dict(config.env)
    found = [env.get("UV_PYTHON", "")]
    found += [f"{env[name]}/bin/python" for name in ("VIRTUAL_ENV", "VIRTUALENV") if env.get(name)]
    found += [f"{folder}/{name}" for folder in on_path(env.get("PATH", "")) for name in ("python3", "python")]
    return tuple(dict.fromkeys(path for path in found if path.startswith("/")))


def c_libraries(arch: str) -> tuple[str, tuple[str, ...]]:
    """Return where an image of musl has its ld.so, and where one of glibc has its C library."""
    folder = LOADERS[arch][0] if arch in LOADERS else arch
    glibc = tuple(f"{top}/libc.so.6" for lib in ("/lib", "/usr/lib") for top in (f"{lib}/{folder}", f"{lib}64", lib))
    return f"/lib/ld-musl-{arch}.so.1", glibc


def version_of(program: str) -> str:
    """Return the version of a Python by its own name, "3.12"; "" if launch cannot run on it, or it is none."""
    found = _PYTHON.fullmatch(program)
    return f"3.{found[1]}" if found and int(found[1]) >= _OLDEST else ""


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
