"""What comes with a request: the daemon as a whole stores it while it is needed, and closes every descriptor."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.app import to_dict
from flyted.contract.errors import InvalidInput, Unsupported
from tests.daemon.process import Process
from tests.values import spec

BASE = "ghcr.io/flyteorg/flyte:py3.12-v2.1.0"


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """A new machine."""
    found = Process(tmp_path, monkeypatch)
    yield found
    found.close()


def names(folder: Path) -> set[str]:
    """What is there."""
    return {path.name for path in folder.iterdir()}


def test_what_an_image_copies_is_stored_for_its_build_and_goes_after_it(process: Process) -> None:
    """A file in memory that the image names, with the content that it says; nothing else is kept or left open."""
    kept = process.state / "bundles"
    memory, disk = os.memfd_create("bundle"), os.open(process.folder, os.O_RDONLY)
    digest = hashlib.sha256(b"files").hexdigest()
    os.write(memory, b"files")

    def build(named: str, sent: dict[str, int], *layers: dict[str, Any]) -> Any:
        packages = {"pipPackages": {"packages": ["httpx"]}}
        spec = {"baseImage": BASE, "layers": [packages, *layers]}
        image = {"spec": spec, "folders": {"src": named}}
        return process.ask("image.build", project="default", domain="development", image=image, bundles=sent)

    def story() -> None:
        process.ask("version")
        process.world.build_s = 0.3
        before = len(names(Path("/proc/self/fd")))
        for named, sent, words in (
            (digest, {}, "did not come with the request"),
            (digest, {digest: disk}, "must come as a file in memory"),
            ("b" * 64, {"b" * 64: memory}, "does not match the announced digest"),
            (digest, {digest: memory, "b" * 64: memory}, "does not say what it is for"),
        ):
            with pytest.raises(InvalidInput, match=words):
                build(named, sent)
        with pytest.raises(Unsupported, match="is not known"):
            build(digest, {digest: memory}, {"copyConfig": {"src": "src", "dst": "/srv"}}, {"pixiProject": {}})
        assert names(kept) == set()
        asking = threading.Thread(target=build, args=(digest, {digest: memory}))
        asking.start()
        while not names(kept):
            time.sleep(0.01)
        asking.join()
        assert names(kept) == set()
        deadline = time.monotonic() + 5
        while len(names(Path("/proc/self/fd"))) > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(names(Path("/proc/self/fd"))) <= before

    process.beside(story)
    os.close(memory)
    os.close(disk)


def test_a_revision_keeps_what_its_image_copies(process: Process) -> None:
    """Beside its code; the next one, which copies something else, lets it go."""
    made = {}
    for text in ("code", "one", "two"):
        made[text] = (hashlib.sha256(text.encode()).hexdigest(), os.memfd_create(text))
        os.write(made[text][1], text.encode())

    def deploy(folder: str) -> None:
        base = {"baseImage": BASE, "layers": []}
        image = {"spec": base, "files": {}, "folders": {"src": made[folder][0]}}
        sent = dict((made["code"], made[folder]))
        process.ask("app.serve", spec=to_dict(spec("web", image=image, bundle=made["code"][0])), bundles=sent)
        kept = {f"{made[name][0]}.tar.gz" for name in ("code", folder)}
        assert names(process.state / "bundles") == kept

    def story() -> None:
        process.ask("version")
        process.world.build_s = 0.01
        deploy("one")
        deploy("two")
        process.ask("app.delete", project="default", domain="development", name="web", keep_data=False)
        assert names(process.state / "bundles") == set()

    process.beside(story)
    for _, fd in made.values():
        os.close(fd)
