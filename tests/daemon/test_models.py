"""The model verbs, with the real table: what is added, what an app is given, what is said of a folder that is gone."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.answers.events import Event
from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput, NotFound
from flyted.daemon import models as verbs_of_models
from flyted.daemon.api.actor import Actor
from flyted.daemon.api.verbs import Call
from flyted.daemon.models import ModelVerbs
from flyted.host import models
from flyted.host.models import Models
from flyted.host.store import Store
from tests.answers import sent
from tests.plan.engines.commands import with_parameters
from tests.values import spec

NAME = "Qwen/Qwen3-0.6B"
COMMAND = ("vllm", "serve", NAME)


@pytest.fixture
def verbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelVerbs]:
    """The verbs on a store of their own; pytest's folders below /tmp, with a 0700 above them, count as seen."""
    monkeypatch.setattr(models, "_UNSEEN", ("/home",))
    monkeypatch.setattr(models, "_check_passable", lambda _folder: None)
    store = Store(tmp_path / "db")
    yield ModelVerbs(Models(store.database))
    store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model."""
    made = tmp_path / "qwen"
    made.mkdir(mode=0o755)
    (made / "config.json").write_text("{}")
    (made / "config.json").chmod(0o644)
    return made


def ask(verbs: ModelVerbs, verb: str, **args: Any) -> dict[str, Any]:
    """One verb, its arguments checked as on the socket."""

    async def nobody(_event: Event) -> None:
        raise AssertionError("no events")

    row = verbs.verbs()[verb]
    call = Call(Actor(os.getuid(), 1), row.check(args), b"", {}, nobody)
    return sent(asyncio.run(row.handler(call)))  # type: ignore[arg-type]


def given(verbs: ModelVerbs, app: AppSpec) -> AppSpec:
    """The app with its models' folders."""
    return asyncio.run(verbs.with_folders(app))


def test_an_app_is_given_the_folder_of_the_model_that_it_names(verbs: ModelVerbs, folder: Path) -> None:
    """Only that one, whatever the client said; and it is another app then, so that it is served anew."""
    app = spec(command=COMMAND, models=((NAME, "/etc"),))
    assert given(verbs, app).models == ()
    added = ask(verbs, "model.add", name=NAME, folder=str(folder))
    assert (added["name"], added["folder"], added["bytes"], added["problem"]) == (NAME, str(folder), 2, "")
    ask(verbs, "model.add", name="other", folder=str(folder))
    served = given(verbs, app)
    assert served.models == ((NAME, str(folder)),)
    assert served.digest() != given(verbs, spec(command=("vllm", "serve", "x"))).digest()
    assert given(verbs, spec(command=("python", "x.py", NAME))).models == ()


def test_a_folder_that_is_gone_is_said_before_the_app_starts(verbs: ModelVerbs, folder: Path) -> None:
    """In the list, and at serve with the app's name; an app that does not use it does not mind."""
    ask(verbs, "model.add", name=NAME, folder=str(folder))
    shutil.rmtree(folder)
    (model,) = ask(verbs, "model.list")["models"]
    assert "No such file" in model["problem"]
    with pytest.raises(InvalidInput, match=f"model '{NAME}' of app 'a'.*No such file"):
        given(verbs, spec(command=COMMAND))
    assert given(verbs, spec(command=("vllm", "serve", "x"))).models == ()
    assert ask(verbs, "model.remove", name=NAME)["name"] == NAME
    assert given(verbs, spec(command=COMMAND)).models == ()


def test_bad_input_changes_nothing(verbs: ModelVerbs, folder: Path) -> None:
    """A name that is a path, a folder that apps may not read, a name that is not there."""
    with pytest.raises(InvalidInput, match="is not a model name"):
        ask(verbs, "model.add", name="/srv/m", folder=str(folder))
    (folder / "config.json").chmod(0o600)
    with pytest.raises(InvalidInput, match="apps may not read"):
        ask(verbs, "model.add", name=NAME, folder=str(folder))
    with pytest.raises(NotFound):
        ask(verbs, "model.remove", name=NAME)
    assert ask(verbs, "model.list") == {"models": []}


def test_a_folder_given_as_model_path_needs_no_name(verbs: ModelVerbs, folder: Path) -> None:
    """It is looked at as one that was added is."""
    command = with_parameters("vllm-fserve", "serve", "/tmp/flyte/model", model_path=str(folder))
    assert given(verbs, spec(command=command)).models == ((str(folder), str(folder)),)
    (folder / "config.json").chmod(0o600)
    with pytest.raises(InvalidInput, match="apps may not read"):
        given(verbs, spec(command=command))


def test_a_file_system_that_does_not_answer_holds_up_nobody(
    verbs: ModelVerbs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked is told; the daemon went on meanwhile."""
    told = threading.Event()

    def never(_folder: str) -> tuple[str, int]:
        told.wait(30)
        return "", 0

    async def asked() -> int:
        turns, look = 0, asyncio.ensure_future(verbs.with_folders(spec(command=COMMAND)))
        while not look.done():
            await asyncio.sleep(0.01)
            turns += 1
        told.set()
        with pytest.raises(InvalidInput, match="could not be read within"):
            look.result()
        return turns

    ask(verbs, "model.add", name=NAME, folder=str(folder))
    monkeypatch.setattr(verbs_of_models, "checked", never)
    monkeypatch.setattr(verbs_of_models, "LOOK_S", 0.2)
    assert asyncio.run(asked()) > 5
