"""The volume verbs, with the real table: root names folders, and apps are given them as they are when served."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.app import AppSpec
from flyted.contract.errors import AlreadyExists, Busy, InvalidInput, NotFound
from flyted.contract.volumes import VolumeUse
from flyted.daemon import volumes as verbs_of_volumes
from flyted.daemon.api.actor import Actor, Right
from flyted.daemon.api.verbs import Call, Socket
from flyted.daemon.volumes import VolumeVerbs
from flyted.host.store import Store
from flyted.host.volumes import Volumes
from flyted.plan.facts import ImageFact
from tests.answers import sent
from tests.values import spec

GROUP = "flyted-vol-photos"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Without apps."""
    made = Store(tmp_path / "db")
    yield made
    made.close()


@pytest.fixture
def verbs(store: Store, monkeypatch: pytest.MonkeyPatch) -> VolumeVerbs:
    """The verbs; /srv/photos is good for reading and writing, and nothing else is there."""

    def checked(name: str, folder: str, *, read_only: bool) -> str:
        if folder != "/srv/photos":
            raise InvalidInput(f"there is no {folder}")
        assert name in ("photos", "ro")
        return "" if read_only else GROUP

    monkeypatch.setattr(verbs_of_volumes, "checked", checked)
    return VolumeVerbs(Volumes(store.database), store)


def ask(verbs: VolumeVerbs, verb: str, **args: Any) -> dict[str, Any]:
    """One verb, its arguments checked as on the socket."""
    row = verbs.verbs()[verb]
    return sent(asyncio.run(row.handler(Call(Actor(0, 1), row.check(args), b"", {}, _nobody))))  # type: ignore[arg-type]


async def _nobody(_event: object) -> None:
    raise AssertionError("no events")


def given(verbs: VolumeVerbs, *uses: VolumeUse) -> AppSpec:
    """The app with its volumes' folders."""
    return asyncio.run(verbs.with_folders(spec("web", volumes=uses)))


def test_an_app_is_given_the_folder_of_a_volume_whatever_its_client_said(verbs: VolumeVerbs, store: Store) -> None:
    """A folder and a group are only flyted's to say."""
    ask(verbs, "volume.add", name="photos", folder="/srv/photos", read_only=False)
    lie = VolumeUse("photos", "/mnt/p", "rw", "/etc", "shadow")
    assert given(verbs, lie).volumes == (VolumeUse("photos", "/mnt/p", "rw", "/srv/photos", GROUP),)
    assert given(verbs, VolumeUse("photos", "/mnt/p", "ro", "/etc")).volumes[0].group == ""
    assert given(verbs).volumes == ()
    with pytest.raises(NotFound, match="there is no volume 'music'") as caught:
        given(verbs, VolumeUse("music", "/mnt/m"))
    assert "volume add music DIR" in caught.value.hint


def test_a_volume_for_reading_is_for_reading(verbs: VolumeVerbs) -> None:
    """Whatever the mode of the folder is."""
    ask(verbs, "volume.add", name="ro", folder="/srv/photos", read_only=True)
    with pytest.raises(InvalidInput, match="may only read volume 'ro'") as caught:
        given(verbs, VolumeUse("ro", "/mnt/p"))
    assert caught.value.hint == "--volume ro:/mnt/p:ro"
    assert given(verbs, VolumeUse("ro", "/mnt/p", "ro")).volumes[0].folder == "/srv/photos"


def test_a_folder_that_cannot_be_used_is_refused_listed_and_not_given(
    verbs: VolumeVerbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may go after it was added."""
    with pytest.raises(InvalidInput, match="there is no /srv/other"):
        ask(verbs, "volume.add", name="photos", folder="/srv/other", read_only=False)
    with pytest.raises(InvalidInput, match="is not the name of a volume"):
        ask(verbs, "volume.add", name="../x", folder="/srv/photos", read_only=False)
    assert ask(verbs, "volume.list") == {"volumes": []}
    ask(verbs, "volume.add", name="photos", folder="/srv/photos", read_only=False)
    with pytest.raises(AlreadyExists):
        ask(verbs, "volume.add", name="photos", folder="/srv/photos", read_only=True)

    def gone(*_args: object, **_named: object) -> str:
        raise InvalidInput("it is gone")

    monkeypatch.setattr(verbs_of_volumes, "checked", gone)
    ((volume),) = ask(verbs, "volume.list")["volumes"]
    assert (volume["problem"], volume["apps"]) == ("it is gone", [])
    with pytest.raises(InvalidInput, match="it is gone"):
        given(verbs, VolumeUse("photos", "/mnt/p"))


def test_a_volume_of_an_app_stays(verbs: VolumeVerbs, store: Store) -> None:
    """Until the app is served without it, or deleted."""
    ask(verbs, "volume.add", name="photos", folder="/srv/photos", read_only=False)
    number = store.add_revision(given(verbs, VolumeUse("photos", "/mnt/p")), ImageFact("/i"), "f", 1.0)
    store.serve("web", number, 1.0)
    ((volume),) = ask(verbs, "volume.list")["volumes"]
    assert volume["apps"] == ["web"]
    with pytest.raises(Busy, match="volume 'photos' is used by web"):
        ask(verbs, "volume.remove", name="photos")
    store.delete("web")
    assert ask(verbs, "volume.remove", name="photos")["folder"] == "/srv/photos"
    with pytest.raises(NotFound):
        ask(verbs, "volume.remove", name="photos")


def test_only_root_names_folders(verbs: VolumeVerbs) -> None:
    """And only on this machine."""
    rows = verbs.verbs()
    assert {name: row.right for name, row in rows.items()} == {
        "volume.add": Right.ADMIN, "volume.list": Right.READ, "volume.remove": Right.ADMIN,
    }  # fmt: skip
    assert all(row.sockets == {Socket.CONTROL} for row in rows.values())
