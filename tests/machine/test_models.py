"""``flytectl model …``: names of a hub that stand for folders of this machine, and apps that use them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit.llama import (
    ANSWER,
    ENVIRONMENT,
    FILE,
    HUB_NAME,
    MODEL,
    MODELS,
    Client,
    forget,
    install,
    serve,
    write,
)  # fmt: skip
from tests.machine.kit.users import alice, answer, by, everything, refused

NAME = "somebody/else-GGUF:Q4"
OTHER = MODELS / "other"
APP = "model-app"


@pytest.fixture(scope="module", autouse=True)
def _installed() -> Iterator[None]:
    install()
    yield
    forget(*(app["name"] for app in answer("app", "ls")["apps"] if app["name"].startswith("model-")))


@pytest.fixture(autouse=True)
def _folder() -> Iterator[None]:
    """Another folder with the model; no name for it."""
    shutil.rmtree(OTHER, ignore_errors=True)
    shutil.copytree(MODEL, OTHER)
    yield
    OTHER.chmod(0o755)
    shutil.rmtree(OTHER)
    by("alice", "flytectl", "model", "rm", NAME)


def listed(name: str) -> dict[str, object] | None:
    """What `model ls --json` says of one."""
    return next((model for model in answer("model", "ls")["models"] if model["name"] == name), None)


def test_a_model_is_added_listed_and_forgotten() -> None:
    """For people and in JSON; the folder stays as it is."""
    said = alice("flytectl", "model", "add", NAME, str(OTHER)).stderr
    assert f"model {NAME} is {OTHER}" in said
    found = listed(NAME)
    assert found is not None
    assert list(found) == ["name", "folder", "bytes", "problem", "added_at"]
    assert (found["folder"], found["problem"]) == (str(OTHER), "")
    assert found["bytes"] == sum(path.stat().st_size for path in OTHER.iterdir())
    table = alice("flytectl", "model", "ls").stdout.splitlines()
    assert table[0].split() == ["NAME", "SIZE", "FOLDER"]
    assert [line.split()[-1] for line in table if line.startswith(NAME)] == [str(OTHER)]
    before = sorted(path.name for path in OTHER.iterdir())
    assert "is unchanged" in alice("flytectl", "model", "rm", NAME).stderr
    assert listed(NAME) is None
    assert sorted(path.name for path in OTHER.iterdir()) == before


def test_a_name_that_is_added_again_stands_for_the_new_folder() -> None:
    """A relative path counts from where it is typed; a link is followed."""
    link = MODELS / "link"
    link.unlink(missing_ok=True)
    link.symlink_to("other")
    alice("flytectl", "model", "add", NAME, str(MODEL))
    alice("sh", "-c", f"cd {MODELS} && flytectl model add {NAME} link")
    link.unlink()
    found = listed(NAME)
    assert found is not None
    assert found["folder"] == str(OTHER)


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        (str(MODELS / "absent"), "cannot be read: No such file"),
        (str(MODEL / FILE), "is not a folder"),
        ("/home/alice", "apps cannot see"),
        ("/var/lib/flyted/secrets", "apps cannot see"),
        ("/", "apps cannot see"),
    ],
)
def test_a_folder_that_is_none_for_apps_is_refused(folder: str, said: str) -> None:
    """With what to type; nothing is changed."""
    before = everything(), answer("model", "ls")
    assert said in refused("flytectl", "model", "add", NAME, folder, status=2)
    assert (everything(), answer("model", "ls")) == before


def test_what_apps_cannot_read_is_refused_and_named() -> None:
    """The folder itself, a file in it, a folder above; the hint is the command that helps, and it does."""
    for path, mode in ((OTHER, 0o700), (OTHER / FILE, 0o600)):
        usual = path.stat().st_mode
        path.chmod(mode)
        said = refused("flytectl", "model", "add", NAME, str(OTHER), status=2)
        assert f"apps may not read '{path}'" in said
        assert f"sudo chmod -R o+rX {OTHER}" in said
        path.chmod(usual & 0o777)
    (OTHER / FILE).chmod(0o600)
    alice(*f"sudo chmod -R o+rX {OTHER}".split())
    alice("flytectl", "model", "add", NAME, str(OTHER))


@pytest.mark.parametrize("name", ["", "-x", "a b", "../x", "x" * 300, "\u00e9t\u00e9", "a\nb"])
def test_a_name_that_no_hub_has_is_refused(name: str) -> None:
    """Before anything is looked at."""
    refused("flytectl", "model", "add", "--", name, str(OTHER), status=2)
    assert listed(name) is None


def test_an_unknown_name_is_not_forgotten() -> None:
    """What is there is one command away."""
    said = refused("flytectl", "model", "rm", "no/such", status=4)
    assert "there is no model 'no/such'" in said
    assert "flytectl model ls" in said


def test_who_is_not_in_the_group_has_no_say() -> None:
    """Mallory sees no names and changes none."""
    refused("flytectl", "model", "add", NAME, str(OTHER), status=6, user="mallory")
    refused("flytectl", "model", "ls", status=6, user="mallory")
    refused("flytectl", "model", "rm", HUB_NAME, status=6, user="mallory")
    assert listed(HUB_NAME) is not None


def test_an_app_goes_on_without_the_name_and_is_not_served_without_the_folder() -> None:
    """Forgotten: it runs, sleeps and wakes with the folder that it has. Gone: serve and `model ls` say so."""
    alice("flytectl", "model", "add", NAME, str(OTHER))
    url = serve(APP, model=NAME)
    assert answer("app", "get", APP)["models"] == [[NAME, str(OTHER)]]
    alice("flytectl", "model", "rm", NAME)
    assert Client(url).chat() == ANSWER
    alice("flytectl", "app", "sleep", APP)
    assert Client(url).chat() == ANSWER
    assert answer("app", "get", APP)["models"] == [[NAME, str(OTHER)]]
    alice("flytectl", "model", "add", NAME, str(OTHER))
    OTHER.rename(MODELS / "moved")
    try:
        found = listed(NAME)
        assert found is not None
        assert "cannot be read" in str(found["problem"])
        assert "cannot be read" in alice("flytectl", "model", "ls").stdout
        python = str(ENVIRONMENT / "bin/python")
        said = refused("flytectl", "serve", "-q", "--python", python, write(APP, model=NAME), status=2)
        assert f"model '{NAME}' of app '{APP}'" in said
        assert Client(url).chat() == ANSWER
    finally:
        (MODELS / "moved").rename(OTHER)


def test_the_folder_may_be_the_files_own_model_path() -> None:
    """`model_path` of the plug-in, a folder of this machine: read where it lies, not copied."""
    source_name = write("model-path", model="x")
    path = Path("/home/alice") / source_name
    path.write_text(path.read_text().replace("model_hf_path='x'", f"model_path={str(OTHER)!r}"))
    python = str(ENVIRONMENT / "bin/python")
    url = json.loads(alice("flytectl", "serve", "--json", "-q", "--python", python, source_name).stdout)["apps"][0][
        "url"
    ]
    assert Client(url).chat() == ANSWER
    assert answer("app", "get", "model-path")["models"] == [[str(OTHER), str(OTHER)]]
    cache = Path("/var/cache/private/flyted-app-model-path")
    assert list(cache.rglob("*.gguf")) == []
