"""Pulls from a registry on this machine: what comes, where it lies, and what happens when it breaks off."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from flyted.plan.images.pull_unit import pulled_image
from flyted.registry import words
from flyted.registry.failed import Failed
from flyted.registry.manifest import DOCKER_MANIFEST, MOST_BYTES, MOST_RUN
from tests.registry.server import NAME, Handler, Registry, cut, digest, drip, layer_of

pytestmark = pytest.mark.slow

BIG = layer_of("big", 3_000_000)


class Waited(threading.Event):
    """Notes for how long it is waited for, and does not let anybody wait."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        return False


def stored(folder: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in (folder / words.SHA256).iterdir()}


def failure(call: Any) -> Failed:
    with pytest.raises(Failed) as caught:
        call()
    assert str(caught.value).isprintable()
    assert "s3cret" not in str(caught.value)
    return caught.value


def test_an_image_of_two_platforms(registry: Registry, tmp_path: Path) -> None:
    """The right one is pulled, by an index and without it; the record names all of it, and says who it was."""
    mine, other = registry.add_image(), registry.add_image(layers=(layer_of("arm"),), arch="arm64")
    index = registry.add_index("v1", arm64=other, amd64=mine)
    for name in (f"{NAME}:v1", f"{NAME}@{index['digest']}", f"{NAME}@{mine['digest']}"):
        assert registry.pull(tmp_path, name).pull() == mine["digest"]
        record = (tmp_path / words.PULLED / f"{mine['digest'][7:]}.json").read_text()
        found = pulled_image(record)
        assert (found.reference, found.platform, found.manifest) == (name, "linux/amd64", mine["digest"])
        assert found.config == {"Env": ["A=1"], "Cmd": ["sh"]}
        assert [layer.size for layer in found.layers] == [len(layer_of("one")), len(layer_of("two"))]
    assert stored(tmp_path) == {mine["digest"], json.loads(record)["config"], *(each.digest for each in found.layers)}
    assert all(digest((tmp_path / words.SHA256 / each[7:]).read_bytes()) == each for each in stored(tmp_path))
    assert list((tmp_path / words.PARTS).iterdir()) == []
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / words.SHA256).iterdir()} == {0o644}


def test_a_config_that_is_too_large(registry: Registry, tmp_path: Path) -> None:
    """The blob, or what of it would be in the record; flyted could not read that, and each deploy would pull again."""
    registry.add_image("labels", run={"Labels": {"x": "y" * MOST_BYTES}})
    found = failure(registry.pull(tmp_path, f"{NAME}:labels").resolve)
    assert (found.status, "answers with more than 4096 KiB" in str(found)) == (words.EX_DATAERR, True)
    registry.add_image("env", run={"Env": [f"A=1{chr(228) * (MOST_RUN // 6)}"]})
    found = failure(registry.pull(tmp_path, f"{NAME}:env").resolve)
    assert (found.status, "more than 1 MiB of variables" in str(found)) == (words.EX_UNFIT, True)
    assert stored(tmp_path) == set()
    registry.add_image("fits", run={"Env": [f"A={chr(228) * (MOST_RUN // 6 - 100)}"], "Labels": {"x": "y" * MOST_RUN}})
    made = registry.pull(tmp_path, f"{NAME}:fits").resolve()
    size = (tmp_path / words.RESOLVED / f"{made[7:]}.json").stat().st_size
    assert MOST_RUN * 0.99 < size < 2 * MOST_RUN, "flyted reads records of up to 4 MiB"


def test_what_is_here_is_not_fetched_again(registry: Registry, tmp_path: Path) -> None:
    registry.add_image("v1", layers=(layer_of("one"), BIG, BIG))
    registry.pull(tmp_path).pull()
    assert len(registry.asked_for(digest(BIG))) == 1
    registry.add_image("v2", layers=(BIG, layer_of("new")))
    registry.asked.clear()
    registry.pull(tmp_path, f"{NAME}:v2").pull()
    assert not registry.asked_for(digest(BIG))


def test_to_resolve_fetches_no_layer(registry: Registry, tmp_path: Path) -> None:
    image = registry.add_image("v1")
    assert registry.pull(tmp_path).resolve() == image["digest"]
    assert len(stored(tmp_path)) == 2
    assert pulled_image((tmp_path / words.RESOLVED / f"{image['digest'][7:]}.json").read_text()).layers
    assert list((tmp_path / words.PULLED).iterdir()) == []


def test_to_resolve_again_is_one_question(registry: Registry, tmp_path: Path) -> None:
    """Each deploy asks which image a name is, and only the first one for its config. A damaged one is replaced."""
    image = registry.add_image("v1")
    registry.pull(tmp_path).resolve()
    for damaged in (b"", b"{}"):
        config = json.loads((tmp_path / words.RESOLVED / f"{image['digest'][7:]}.json").read_text())["config"]
        if damaged:
            (tmp_path / words.SHA256 / config[7:]).write_bytes(damaged)
        registry.asked.clear()
        assert registry.pull(tmp_path).resolve() == image["digest"]
        assert len(registry.asked_for(config)) == bool(damaged)
        assert digest((tmp_path / words.SHA256 / config[7:]).read_bytes()) == config


def test_a_manifest_of_docker(registry: Registry, tmp_path: Path) -> None:
    registry.add_image("v1", mediaType=DOCKER_MANIFEST)
    registry.pull(tmp_path).pull()


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("v2", words.EX_NOTFOUND, "does not have team/app (MANIFEST_UNKNOWN: unknown)"),
        ("arm", words.EX_UNFIT, "for linux/arm64, and this machine is linux/amd64"),
        ("index", words.EX_UNFIT, "not made for linux/amd64, only for linux/arm64"),
        ("old", words.EX_UNFIT, "schema 1"),
        ("huge", words.EX_DATAERR, "more than 4096 KiB"),
        ("other", words.EX_DATAERR, "does not match its digest"),
        ("loop", words.EX_UNFIT, "index of indexes"),
    ],
)
def test_an_image_that_cannot_be_had(registry: Registry, tmp_path: Path, name: str, status: int, said: str) -> None:
    arm = registry.add_image("arm", arch="arm64")
    registry.add_index("index", arm64=arm)
    registry.add_manifest({"schemaVersion": 1, "fsLayers": []}, "old")
    registry.manifests["huge"] = b" " * (MOST_BYTES + 1)
    deep = registry.add_image()
    for _ in range(3):
        deep = registry.add_index("loop", amd64=deep)
    wrong = "sha256:" + "0" * 64
    registry.manifests[wrong] = registry.manifests["arm"]
    found = failure(registry.pull(tmp_path, f"{NAME}@{wrong}" if name == "other" else f"{NAME}:{name}").pull)
    assert found.status == status
    assert said in str(found)
    assert list((tmp_path / words.PULLED).iterdir()) == []


class TestBroken:
    """Layers that do not come as they should."""

    @pytest.fixture
    def blob(self, registry: Registry) -> str:
        registry.add_image("v1", layers=(BIG,))
        return digest(BIG)

    def test_it_goes_on_where_it_broke_off(self, registry: Registry, tmp_path: Path, blob: str) -> None:
        registry.rules["blobs/" + blob] = self.once(registry, blob, lambda h: cut(h, BIG, 2_000_000))
        registry.pull(tmp_path).pull()
        ranges = [headers.get("Range") for headers in registry.asked_for(blob)]
        assert ranges == [None, "bytes=2000000-"]
        assert (tmp_path / words.SHA256 / blob[7:]).read_bytes() == BIG

    def test_a_later_pull_goes_on(self, registry: Registry, tmp_path: Path, blob: str) -> None:
        registry.rules[blob] = lambda h: cut(h, BIG, 1000 + 2_000_000 * (len(registry.asked_for(blob)) == 1))
        found = failure(registry.pull(tmp_path, tries=2).pull)
        assert found.status == words.EX_UNAVAILABLE
        registry.rules.clear()
        registry.asked.clear()
        registry.pull(tmp_path).pull()
        assert [headers.get("Range") for headers in registry.asked_for(blob)] != [None]

    def test_as_long_as_something_comes_it_goes_on(self, registry: Registry, tmp_path: Path) -> None:
        """Ten failures, and two tries."""
        large = layer_of("large", 12_000_000)
        registry.add_image("v1", layers=(large,))

        def a_piece(handler: Handler) -> None:
            begin = int(handler.headers.get("Range", "bytes=0-")[6:-1])
            handler.send_response(206 if begin else 200)
            handler.send_header("Content-Range", f"bytes {begin}-{len(large) - 1}/{len(large)}")
            handler.send_header("Content-Length", str(len(large) - begin))
            handler.end_headers()
            handler.wfile.write(large[begin : begin + 1_200_000])
            handler.close_connection = True

        registry.rules[digest(large)] = a_piece
        registry.pull(tmp_path, tries=2).pull()

    @pytest.mark.parametrize("how", ["ignored", "refused", "elsewhere"])
    def test_a_registry_without_ranges(self, registry: Registry, tmp_path: Path, blob: str, how: str) -> None:
        def rule(handler: Handler) -> None:
            first = len(registry.asked_for(blob)) == 1
            if first:
                cut(handler, BIG, 2_000_000)
            elif "Range" not in handler.headers or how == "ignored":
                handler.reply(200, BIG)
            elif how == "refused":
                handler.reply(416)
            else:
                handler.reply(206, BIG[5:], Content_Range=f"bytes 5-{len(BIG) - 1}/{len(BIG)}")

        registry.rules[blob] = rule
        registry.pull(tmp_path).pull()
        assert (tmp_path / words.SHA256 / blob[7:]).read_bytes() == BIG

    def test_another_content(self, registry: Registry, tmp_path: Path, blob: str) -> None:
        registry.rules[blob] = lambda h: h.reply(200, bytes(len(BIG)))
        found = failure(registry.pull(tmp_path).pull)
        assert found.status == words.EX_DATAERR
        assert "does not match its digest" in str(found)
        assert len(registry.asked_for(blob)) == 1
        assert blob not in stored(tmp_path)
        registry.rules.clear()
        registry.pull(tmp_path).pull()

    def test_a_config_with_another_content(self, registry: Registry, tmp_path: Path, blob: str) -> None:
        registry.rules["blobs/(?!" + blob + ")"] = lambda h: h.reply(200, b"{}")
        assert "does not match its digest" in str(failure(registry.pull(tmp_path).pull))

    def test_more_than_was_said(self, registry: Registry, tmp_path: Path, blob: str) -> None:
        registry.rules[blob] = lambda h: h.reply(200, BIG + b"x")
        assert "larger than its manifest says" in str(failure(registry.pull(tmp_path).pull))
        assert registry.part(tmp_path, blob).stat().st_size == 0

    def test_less_than_was_said(self, registry: Registry, tmp_path: Path, blob: str) -> None:
        registry.rules[blob] = lambda h: h.reply(200, BIG[:-1])
        assert failure(registry.pull(tmp_path, tries=2).pull).status == words.EX_UNAVAILABLE

    def test_what_was_kept_is_damaged(self, registry: Registry, tmp_path: Path, blob: str) -> None:
        """As after a power cut."""
        pull = registry.pull(tmp_path)
        registry.part(tmp_path, blob).write_bytes(bytes(1_000_000))
        pull.pull()
        assert [headers.get("Range") for headers in registry.asked_for(blob)] == ["bytes=1000000-", None]

    def test_what_was_kept_is_too_long(self, registry: Registry, tmp_path: Path, blob: str) -> None:
        pull = registry.pull(tmp_path)
        registry.part(tmp_path, blob).write_bytes(bytes(len(BIG) + 5))
        pull.pull()

    def test_a_size_that_differs_from_what_is_here(self, registry: Registry, tmp_path: Path) -> None:
        registry.add_image("v1", layers=(BIG,))
        registry.pull(tmp_path).pull()
        manifest = json.loads(registry.manifests["v1"])
        manifest["layers"][0]["size"] = 5
        registry.add_manifest(manifest, "v1")
        assert "its manifest says 5" in str(failure(registry.pull(tmp_path).pull))

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_it_is_tried_again(self, registry: Registry, tmp_path: Path, blob: str, status: int) -> None:
        registry.rules[blob] = self.once(registry, blob, lambda h: h.reply(status, b"{}", Retry_After="0"))
        registry.rules["manifests/v1"] = self.once(registry, "manifests/v1", lambda h: h.reply(status))
        registry.pull(tmp_path).pull()

    @pytest.mark.parametrize(
        ("said", "waits"),
        [
            ("7", 7),
            ("3600", 60),  # nobody waits for an hour
            ("0", 0.01),
            ("", 0.01),
            ("-5", 0.01),
            ("1e3", 0.01),
            ("999999", 0.01),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0.01),
        ],
    )
    @pytest.mark.parametrize("status", [429, 503])
    def test_it_waits_as_long_as_the_registry_says(
        self, registry: Registry, tmp_path: Path, blob: str, status: int, said: str, waits: float
    ) -> None:
        """By Retry-After in seconds, a minute at most; not less than it would wait by itself."""
        registry.rules[blob] = self.once(registry, blob, lambda h: h.reply(status, b"{}", Retry_After=said))
        pull, waited = registry.pull(tmp_path), Waited()
        pull._stop = waited
        pull.pull()
        assert waited.seconds == [waits]

    def test_not_for_ever(self, registry: Registry, tmp_path: Path, blob: str) -> None:
        registry.rules[blob] = lambda h: h.reply(503, b'{"errors":[{"code":"X","message":"\\u001b[2Jtired"}]}')
        found = failure(registry.pull(tmp_path).pull)
        assert found.status == words.EX_UNAVAILABLE
        assert "tired" in str(found)
        assert len(registry.asked_for(blob)) == 3

    def test_the_failure_of_a_later_layer_is_said(self, registry: Registry, tmp_path: Path) -> None:
        """The first one takes long, and is given up."""
        registry.add_image("v1", layers=(BIG, layer_of("bad")))
        registry.rules[digest(BIG)] = lambda h: drip(h, self.head(BIG), bytes(1000))
        registry.rules[digest(layer_of("bad"))] = lambda h: h.reply(200, b"x" * len(layer_of("bad")))
        began = time.monotonic()
        assert digest(layer_of("bad"))[:19] in str(failure(registry.pull(tmp_path, timeout_s=30).pull))
        assert time.monotonic() - began < 10

    @staticmethod
    def head(data: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data)

    @staticmethod
    def once(registry: Registry, pattern: str, rule: Any) -> Any:
        return lambda handler: rule(handler) if len(registry.asked_for(pattern)) == 1 else False


@pytest.mark.parametrize(
    "answer",
    [b"", b"\0" * 1000, b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
     b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nx", b"HTTP/1.1 418 Teapot\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 204 No\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\nx"],
)  # fmt: skip
def test_what_is_no_answer_is_said_so(registry: Registry, tmp_path: Path, answer: bytes) -> None:
    def rule(handler: Handler) -> None:
        handler.wfile.write(answer)
        handler.close_connection = True

    registry.rules["."] = rule
    failure(registry.pull(tmp_path, tries=2, timeout_s=2).pull)


class TestRoom:
    def test_an_image_that_is_too_large(self, registry: Registry, tmp_path: Path) -> None:
        registry.add_image("v1", layers=(BIG,))
        found = failure(registry.pull(tmp_path, most_bytes=1_000_000).pull)
        assert "more than 1 MB" in str(found)
        assert not registry.asked_for(digest(BIG))

    def test_one_that_says_a_size_for_which_there_is_no_room(self, registry: Registry, tmp_path: Path) -> None:
        registry.add_image("v1", layers=(BIG,))
        manifest = json.loads(registry.manifests["v1"])
        manifest["layers"][0]["size"] = 1 << 60
        registry.add_manifest(manifest, "v1")
        found = failure(registry.pull(tmp_path, most_bytes=1 << 62).pull)
        assert found.status == words.EX_IOERR
        assert "needs 1152921504.6 GB" in str(found)
        assert not registry.asked_for(digest(BIG))

    def test_a_disk_that_fills_meanwhile(
        self, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry.add_image("v1", layers=(BIG,))

        def full(fd: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            registry.pull(tmp_path).pull()
        assert list((tmp_path / words.PULLED).iterdir()) == []
