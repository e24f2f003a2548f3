"""Decides the layers of a rebuilt image: the same steps under other ids, so that existing layers do not change. Pure.

A layer's id follows from what it is made of, its *key*; so does that of a Python environment. What a command installs
is not part of it and ages. A rebuild gives the first steps that age ids of their own, from the key and a *stamp*; all
steps above them have new keys by that. Once the rebuilt image is whole, its ids are the ones that count: whoever needs
the layer of a key is given that of the id. So an app that is deployed later gets what was rebuilt, also in another
image that begins alike.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from flyted.plan.images.canonical import digest

AGES = frozenset({"run", "debian"})
"""The kinds of steps that make something else on another day. What is unpacked or copied is named by its content."""


@dataclass(frozen=True)
class Renewed:
    """The ids that count, by key, and which images (by hash) were rebuilt as which others."""

    ids: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    images: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def plus(self, other: Renewed) -> Renewed:
        """Return both; what ``other`` says counts."""
        return Renewed({**self.ids, **other.ids}, {**self.images, **other.images})

    def undone(self, last: Renewed, before: Renewed) -> Renewed:
        """Return this without ``last``, which was added to ``before``; what was rebuilt since then stays."""
        return Renewed(_undone(self.ids, last.ids, before.ids), _undone(self.images, last.images, before.images))

    def needed(self, found: Collection[str], keys: Collection[str]) -> Renewed:
        """Return what still matters. ``found``: the images and layers on the disk. ``keys``: those of its images.

        An image may have been copied from a layer that is gone: its recipe gives it only with that layer's id. Else an
        id is forgotten when neither its layer nor that of the key is there: what is made then is new anyway.
        """
        ids = {key: name for key, name in self.ids.items() if key in found or name in found or key in keys}
        return Renewed(ids, {old: new for old, new in self.images.items() if old in found})

    def rebuilt_as(self, image: str) -> str:
        """Return the hash of what an image was rebuilt as, and that again, and so on; "" if it was not rebuilt."""
        found = [image]
        while (new := self.images.get(found[-1], "")) and new not in found:
            found.append(new)
        return found[-1] if len(found) > 1 else ""


def renewed_id(key: str, stamp: str) -> str:
    """Return 32 hex digits: the id of what a rebuild makes. ``stamp``: no other rebuild has it."""
    return digest({"renewed": key, "stamp": stamp})


class Ids:
    """The ids of one image's layers. ``stamp``: of its rebuild; "": it is not one.

    ``new``: key and id of each layer that the rebuild makes. ``keys``: those of all that were ever rebuilt.
    """

    def __init__(self, known: Mapping[str, str], stamp: str) -> None:
        self._known = known
        self._stamp = stamp
        self._fresh: set[str] = set()
        self.new: dict[str, str] = {}
        self.keys: set[str] = set()

    def of(self, key: str, step: Mapping[str, Any], parents: Collection[str]) -> str:
        """Return the id of the layer that a step makes upon others."""
        below = {*parents, *(layer for each in (step, *step.get("mounts", ())) for layer in each.get("from", ()))}
        if not self._fresh.isdisjoint(below):
            self._fresh.add(key)  # there cannot be one yet: its key names a layer that is made for this rebuild
            return key
        if self._stamp and step["kind"] in AGES:
            self.keys.add(key)
            self.new[key] = name = renewed_id(key, self._stamp)
            self._fresh.add(name)
            return name
        if key in self._known:
            self.keys.add(key)
        return self._known.get(key, key)


def _undone(now: Mapping[str, str], last: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in now.items() if last.get(key) != value}
    return {**{key: before[key] for key in last if key in before and key not in kept and key in now}, **kept}
