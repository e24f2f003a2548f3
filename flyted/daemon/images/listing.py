"""Lists the images, what is in them, and which apps use them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from flyted.contract.answers.images import ImageEntry, ImageList, LayerStatus
from flyted.contract.errors import InvalidInput, NotFound
from flyted.contract.names import printable
from flyted.daemon.api.verbs import Call, Right, Verb
from flyted.daemon.images.images import Images
from flyted.plan.facts import StoredApp
from flyted.plan.images.build_unit import ImageRecord, is_hash_prefix
from flyted.plan.images.root_record import LayerRecord, RootRecord
from flyted.plan.images.unused import in_use

READ_AT_ONCE = 20


class ImageVerbs:
    """The handlers of the verbs about images. ``apps()``: all apps."""

    def __init__(self, images: Images, apps: Callable[[], Iterable[StoredApp]]) -> None:
        self._images = images
        self._apps = apps

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        return {
            "image.list": Verb(Right.READ, {}, self.listed),
            "image.get": Verb(Right.READ, {"hash": str}, self.get),
        }

    async def listed(self, _call: Call) -> ImageList:
        """Return the finished images, the newest first."""
        found = []
        for entry in entries(self._images, self._apps()):
            found.append(entry)
            if len(found) % READ_AT_ONCE == 0:
                await asyncio.sleep(0)  # lets a start that asks for a credential go first
        return ImageList(tuple(sorted(found, key=lambda each: -each.built_at)))

    async def get(self, call: Call) -> ImageEntry:
        """Return one image by its hash, or by the first digits that no other image has.

        Raises :class:`InvalidInput` for what is no hash or is not unambiguous, and :class:`NotFound`.
        """
        return by_prefix(call.args["hash"], entries(self._images, self._apps()))


def by_prefix(first: str, images: Iterable[ImageEntry]) -> ImageEntry:
    """Return the image whose hash begins with these digits.

    Raises :class:`InvalidInput` for what is no hash or is not unambiguous, and :class:`NotFound`.
    """
    if not is_hash_prefix(first):
        raise InvalidInput(f"{printable(first)} is not the hash of an image", hint="flytectl image ls")
    found = [each for each in images if each.hash.startswith(first)]
    if not found:
        raise NotFound(f"there is no image {first}", hint="flytectl image ls")
    if len(found) > 1:
        raise InvalidInput(f"{len(found)} images begin with {first}", hint="give more of its digits")
    return found[0]


def entries(images: Images, apps: Iterable[StoredApp]) -> Iterator[ImageEntry]:
    """Yield the finished images, in no order. ``apps``: all apps."""
    users, rebuilt_as = _users(apps), images.renewals.known.rebuilt_as
    for record in images.records():
        yield _environment(record, users[record.hash], rebuilt_as(record.hash))
    for root, layers in images.roots.records():
        yield _root(root, layers, users[root.hash], rebuilt_as(root.hash))


def _users(apps: Iterable[StoredApp]) -> dict[str, list[str]]:
    users: dict[str, list[str]] = defaultdict(list)
    for app in apps:
        for image in in_use([app]):
            users[image].append(str(app.key))
    return users


def _root(record: RootRecord, layers: Iterable[LayerRecord], users: Iterable[str], rebuilt: str) -> ImageEntry:
    known = tuple(layers)
    return ImageEntry(
        hash=record.hash, python=record.version, packages=0,
        bytes=sum(each.bytes for each in known) if all(each.bytes for each in known) else 0,
        built_at=record.built_at, used_by=tuple(sorted(users)), note="; ".join(record.notes), built=(),
        layers=tuple(LayerStatus(each.show, (), each.took_s) for each in known),
        digests=tuple(sorted(record.digests.items())), rebuilt_as=rebuilt,
    )  # fmt: skip


def _environment(record: ImageRecord, users: Iterable[str], rebuilt: str) -> ImageEntry:
    return ImageEntry(
        hash=record.hash, python=record.python, packages=record.packages, bytes=record.bytes,
        built_at=record.built_at, used_by=tuple(sorted(users)), note=record.note, built=record.built,
        layers=tuple(LayerStatus(each.source, each.requirements, each.seconds) for each in record.layers),
        digests=(), rebuilt_as=rebuilt,
    )  # fmt: skip
