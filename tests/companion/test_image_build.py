"""The output of an image build, shown while the SDK waits for its end; and what builds a Dockerfile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flyted.companion import image_build

pytest.importorskip("flyte")
LINES = ["Resolved 7 packages\n", "\x1b[2J and more\n"]


class Build:
    """A run that ends after its log has been read; ``log``: what the server sends, or raises."""

    action_id = "the build"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *log: Any) -> None:
        from flyte.remote import _logs

        self._log, self._read = log, asyncio.Event()
        monkeypatch.setattr(_logs, "Logs", type("Logs", (), {"tail": type("Tail", (), {"aio": self._tail})}))

    async def _tail(self, action_id: object) -> AsyncIterator[Any]:
        assert action_id == self.action_id
        for each in self._log:
            if isinstance(each, Exception):
                self._read.set()
                raise each
            yield each
        self._read.set()

    async def wait(self, *, quiet: bool) -> str:
        """The SDK's own, which shows nothing."""
        await self._read.wait()
        return f"quiet: {quiet}"


def line(message: str, *, of_flyted: bool = False) -> Any:
    payload = pytest.importorskip("flyteidl2.logs.dataplane.payload_pb2")
    return payload.LogLine(message=message, originator=payload.SYSTEM if of_flyted else payload.USER)


def built(build: Build, *, ours: bool = True) -> str:
    """What the wait for the build returns, inside of the SDK's ``build_image``."""

    async def build_image() -> str:
        return str(await asyncio.wait_for(image_build._showing(Build.wait)(build, quiet=True), 20))

    return str(asyncio.run(image_build._noting(build_image, lambda: ours)()))


def test_lines_are_shown_as_they_come(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """But not the reason of a failure, which is in the SDK's own error; nor what would move the cursor."""
    build = Build(monkeypatch, *map(line, LINES), line("why\n", of_flyted=True))
    assert built(build) == "quiet: True"
    assert capsys.readouterr().err == "  Resolved 7 packages\n  ?[2J and more\n"


def test_nothing_is_shown_otherwise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a build by another server, and of a run for which the user's own code waits."""
    build = Build(monkeypatch, line("secret of another server\n"))
    build._read.set()
    assert built(build, ours=False) == "quiet: True"
    assert asyncio.run(image_build._showing(Build.wait)(build, quiet=False)) == "quiet: False"
    assert capsys.readouterr().err == ""


def test_an_older_flyted_has_no_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor one that cannot be reached just now: the build goes on, and nothing is said."""
    from connectrpc.code import Code
    from connectrpc.errors import ConnectError

    assert built(Build(monkeypatch, ConnectError(Code.UNIMPLEMENTED, "no"))) == "quiet: True"
    assert capsys.readouterr().err == ""


def test_another_sdk_is_told_once(monkeypatch: pytest.MonkeyPatch, steps_aside_once: Any) -> None:
    """If the log cannot be asked for as the companion knows it."""
    assert built(Build(monkeypatch, AttributeError("moved"))) == "quiet: True"
    assert len(steps_aside_once()) == 1


def test_it_knows_the_sdk() -> None:
    """The names that it changes are there, and mean what it takes them for."""
    from flyte._internal.imagebuild.remote_builder import RemoteImageBuilder
    from flyte.remote import Action
    from flyte.remote._logs import Logs

    assert asyncio.iscoroutinefunction(RemoteImageBuilder.build_image)
    assert asyncio.iscoroutinefunction(Action.wait)
    assert isinstance(Action.action_id, property)
    assert callable(Logs.tail.aio)


@pytest.mark.parametrize("ours", [True, False])
def test_a_dockerfile_has_another_command(tmp_path: Path, ours: bool) -> None:
    """The SDK itself refuses it, and names a builder that needs Docker."""
    image = pytest.importorskip("flyte").Image.from_dockerfile(tmp_path / "Dockerfile", registry="r", name="n")
    remote = pytest.importorskip("flyte._internal.imagebuild.remote_builder")

    async def refuses() -> None:
        remote._get_layers_proto(image, tmp_path)

    errors = pytest.importorskip("flyte.errors")
    with pytest.raises(errors.ImageBuildError, match="Custom Dockerfile is not supported") as raised:
        asyncio.run(image_build._noting(refuses, lambda: ours)())
    assert ("flytectl serve FILE builds an image of a Dockerfile" in str(raised.value)) is ours
