"""Pulls an image: resolves its name, then fetches its manifest, its config and its layers, several at a time."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from typing import Any

from .client import Client, Retries
from .failed import Failed, Unavailable, say
from .http_get import Reply
from .logins import Login
from .manifest import ACCEPTED, MOST_BYTES, Blob, Manifest, config_of, manifest_or_choice
from .reach import Reach
from .reference import Reference
from .store import Part, Store, megabytes
from .words import EX_DATAERR, EX_UNAVAILABLE, EX_UNFIT, FORMAT, PULLED, RESOLVED

_AT_A_TIME = 3
_DEEPEST_INDEX = 2
_TELL_S = 5
_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/(?:[0-9]{1,19}|\*)")
_PROGRESS = 1 << 20  # bytes after which a failure is a first one again


@dataclass
class Pull:
    """One image for one platform. ``most_bytes``: of all layers together."""

    reference: Reference
    platform: str
    store: Store
    reach: Reach = field(default_factory=Reach)
    logins: Mapping[str, Login] = field(default_factory=dict)
    retries: Retries = field(default_factory=Retries)
    most_bytes: int = 64 << 30

    def __post_init__(self) -> None:
        self._client = Client(self.reference, self.reach, self.logins)
        self._stop = threading.Event()

    def resolve(self) -> str:
        """Fetch manifest and config, write the record that says so, and return the manifest's digest."""
        found = self._found()
        self.store.record(RESOLVED, found.digest, found.record)
        return found.digest

    def pull(self) -> str:
        """Fetch all of an image, write its record last, and return the manifest's digest."""
        found = self._found()
        layers = list({layer.digest: layer for layer in found.manifest.layers}.values())
        self.store.make_room(layers)
        self._progress = _Progress(layers)
        with ThreadPoolExecutor(_AT_A_TIME) as threads:
            done, others = wait([threads.submit(self._layer, each) for each in layers], return_when=FIRST_EXCEPTION)
            failures = [error for each in done if (error := each.exception())]
            if failures:
                self._stop.set()
                for each in others:
                    each.cancel()
                raise failures[0]
        self.store.record(PULLED, found.digest, found.record)
        return found.digest

    def _found(self) -> _Found:
        asked, digest = self.reference.digest or self.reference.tag, self.reference.digest
        for _ in range(_DEEPEST_INDEX + 1):
            data = self._document(f"manifests/{digest or asked}", digest)
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            chosen = manifest_or_choice(data, self.platform)
            if isinstance(chosen, Manifest):
                return self._with_config(digest, data, chosen)
            digest = chosen.digest
        raise Failed(EX_UNFIT, f"the image is an index of indexes, more than {_DEEPEST_INDEX} of them")

    def _with_config(self, digest: str, data: bytes, manifest: Manifest) -> _Found:
        total = sum(layer.size for layer in manifest.layers)
        if total > self.most_bytes:
            raise Failed(EX_UNFIT, f"the image has {megabytes(total)}, more than {megabytes(self.most_bytes)}")
        known = self.store.known(manifest.config)
        config = known or self._document(f"blobs/{manifest.config.digest}", manifest.config.digest)
        run, diffs = config_of(config, self.platform, len(manifest.layers))
        self.store.add(Blob(digest, "", len(data)), data)
        if not known:
            self.store.add(manifest.config, config)
        record = {
            "format": FORMAT,
            "reference": str(self.reference),
            "platform": self.platform,
            "manifest": digest,
            "config": manifest.config.digest,
            "image": {"config": run},
            "layers": [{**asdict(layer), "diff_id": diff} for layer, diff in zip(manifest.layers, diffs, strict=True)],
        }
        return _Found(digest, manifest, record)

    def _document(self, what: str, digest: str) -> bytes:
        """Return a manifest or a config. ``digest``: that it must have, or empty."""
        data = self.retries.run(lambda: self._read(what), self._stop)
        if digest and f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise Failed(EX_DATAERR, f"{digest[:19]} arrived with content that does not match its digest")
        return data

    def _read(self, what: str) -> bytes:
        with self._client.get(what, {"Accept": ", ".join((*ACCEPTED, "*/*"))}) as reply:
            if reply.status != 200:
                raise Failed(EX_DATAERR, f"{reply.url.server} answers {reply.status}")
            return reply.body(MOST_BYTES)

    def _layer(self, layer: Blob) -> None:
        with self.store.part(layer, self._client.server) as part:
            if part is None:
                self._progress.have(layer, "is here")
                return
            kept = part.have > 0
            try:
                self._fetch(part)
            except Failed as failure:
                if not kept or failure.status != EX_DATAERR:
                    raise
                self._fetch(part)  # what was kept of an earlier pull may be what is damaged
        self._progress.have(layer, "done")

    def _fetch(self, part: Part) -> None:
        """Download a blob. As long as there is progress, the connection may break."""
        while True:
            before = part.have
            try:
                self.retries.run(lambda: self._arrive(part), self._stop)
                return part.finish()
            except Unavailable:
                if part.have < before + _PROGRESS or self._stop.is_set():
                    raise

    def _arrive(self, part: Part) -> None:
        if part.have >= part.blob.size:
            return
        headers = {"Range": f"bytes={part.have}-"} if part.have else {}
        with self._client.get(f"blobs/{part.blob.digest}", headers) as reply:
            if reply.status == 416 or (reply.status == 206 and _begin(reply) != part.have):
                part.begin()
                raise Unavailable(f"{reply.url.server} does not resume the download")
            if reply.status == 200:
                part.begin()
            for piece in reply.pieces():
                if self._stop.is_set():
                    raise Failed(EX_UNAVAILABLE, "another layer failed")
                part.write(piece)
                self._progress.came(part, len(piece))
        if part.have < part.blob.size:
            raise Unavailable(f"{reply.url.server} sends less than the manifest says")


@dataclass(frozen=True)
class _Found:
    digest: str
    manifest: Manifest
    record: dict[str, Any]


class _Progress:
    """Reports a pull's progress, at most every few seconds, and each finished layer."""

    def __init__(self, layers: list[Blob]) -> None:
        self._total, self._number, self._done = sum(layer.size for layer in layers), len(layers), 0
        self._have: dict[str, int] = {}
        self._came = 0
        self._since = self._told = time.monotonic()
        self._lock = threading.Lock()

    def came(self, part: Part, size: int) -> None:
        with self._lock:
            self._came += size
            self._have[part.blob.digest] = part.have
            now = time.monotonic()
            if now - self._told >= _TELL_S:
                self._told = now
                rate = megabytes(self._came / (now - self._since))
                say(f"{megabytes(sum(self._have.values()))} of {megabytes(self._total)}, {rate} a second")

    def have(self, layer: Blob, how: str) -> None:
        with self._lock:
            self._done += 1
            self._have[layer.digest] = layer.size
            say(f"layer {self._done} of {self._number}: {layer.digest[:19]}, {megabytes(layer.size)}, {how}")


def _begin(reply: Reply) -> int:
    found = _RANGE.fullmatch(reply.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1
