"""The reason of a failed image build, beside the page that the SDK names."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flyted.companion import image_build

errors = pytest.importorskip("flyte.errors")
SAID = "❌ Build failed in 0:00:04 at https://flyted.localhost/v2/domain/d/project/p/runs/r1"


async def fails(*_: Any) -> None:
    raise errors.ImageBuildError(SAID)


def build(monkeypatch: pytest.MonkeyPatch, *, ours: bool, reason: str) -> str:
    """What a build says that fails."""

    async def asked(domain: str, project: str, name: str) -> str:
        assert (domain, project, name) == ("d", "p", "r1")
        return reason

    monkeypatch.setattr(image_build, "_reason", asked)
    with pytest.raises(errors.ImageBuildError) as raised:
        asyncio.run(image_build._explaining(fails, lambda: ours)())
    return str(raised.value)


def test_the_reason_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's error and words, then the reason."""
    assert build(monkeypatch, ours=True, reason="layer 1: no solution") == f"{SAID}\nlayer 1: no solution"


@pytest.mark.parametrize(("ours", "reason"), [(False, "secret of another server"), (True, "")])
def test_nothing_is_added_otherwise(monkeypatch: pytest.MonkeyPatch, ours: bool, reason: str) -> None:
    """Towards another server, and when nobody knows why."""
    assert build(monkeypatch, ours=ours, reason=reason) == SAID


@pytest.mark.parametrize("ours", [True, False])
def test_a_dockerfile_has_another_command(tmp_path: Path, ours: bool) -> None:
    """The SDK itself refuses it, and names a builder that needs Docker."""
    image = pytest.importorskip("flyte").Image.from_dockerfile(tmp_path / "Dockerfile", registry="r", name="n")
    remote = pytest.importorskip("flyte._internal.imagebuild.remote_builder")

    async def refuses() -> None:
        remote._get_layers_proto(image, tmp_path)

    with pytest.raises(errors.ImageBuildError, match="Custom Dockerfile is not supported") as raised:
        asyncio.run(image_build._explaining(refuses, lambda: ours)())
    assert ("flytectl serve FILE builds an image of a Dockerfile" in str(raised.value)) is ours


def test_a_reason_that_cannot_be_asked_for_is_none(steps_aside_once: Any) -> None:
    """Without a connection the SDK's own error is what is left."""
    assert asyncio.run(image_build._reason("d", "p", "r1")) == ""
    assert len(steps_aside_once()) == 1
