"""``flytectl serve --parameter``: values for parameters, in place of what the file has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flyted.contract.errors import Unsupported, UserCodeFailed
from flyted.contract.fserve import parameters
from tests.flytectl.loading import load_file, needs_sdk, write

if TYPE_CHECKING:
    from flytectl.loaded import LoadedApp

pytestmark = [pytest.mark.slow, needs_sdk]

FILE = """
    import flyte.app, flyte.io
    from flyte.app import AppEnvironment, Parameter
    one = AppEnvironment(name="one", args="serve", parameters=[
        Parameter(name="word", value="x", env_var="WORD"),
        Parameter(name="model", value=flyte.io.File(path="s3://b/m"), mount="/app/models/"),
        Parameter(name="data", value=flyte.app.RunOutput(type="directory", run_name="r")),
        Parameter(name="art", value=flyte.app.ArtifactValue(name="bert", type="file")),
        Parameter(name="late", type="file"),
        Parameter(name="other", value=flyte.app.AppEndpoint(app_name="back")),
    ])
    two = AppEnvironment(name="two", args="serve", parameters=[Parameter(name="word", value="y")])
"""
ALL = ("--parameter=data=/srv/d", "--parameter=art=/srv/a", "--parameter=late=/srv/l")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write(tmp_path, "app.py", FILE)


def values(app: LoadedApp) -> dict[str, tuple[str, str]]:
    """Name → (type, value), as the running app gets them."""
    found: list[dict[str, Any]] = parameters(app.idl["spec"]["container"]["command"])
    return {each["name"]: (each["type"], each["value"]) for each in found}


def test_a_value_of_each_kind(file: Path) -> None:
    """A file or folder is a path or an address; what only a cluster has gets one in its place."""
    given = [*ALL, "--parameter=word=a=b", "--parameter=model=s3://other/m", "--parameter=other=front"]
    with load_file(file, *given) as loaded:
        one, two = loaded.apps
        found = values(one)
        assert found["word"] == ("string", "a=b")
        assert found["model"] == ("file", "s3://other/m")
        assert found["data"] == ("directory", "/srv/d")
        assert found["art"] == ("file", "/srv/a")
        assert found["late"] == ("file", "/srv/l")
        assert found["other"][0] == "app_endpoint"
        assert '"app_name":"front"' in found["other"][1]
        assert values(two) == {"word": ("string", "a=b")}


def test_a_value_for_one_app_alone(file: Path) -> None:
    with load_file(file, *ALL, "--parameter=two:word=z") as loaded:
        assert [values(app)["word"][1] for app in loaded.apps] == ["x", "z"]


def test_what_the_file_says_stays(file: Path) -> None:
    """The mount, the variable, and everything else of the parameter."""
    with load_file(file, *ALL, "--parameter=model=/srv/m.bin") as loaded:
        (found,) = [p for p in parameters(loaded.apps[0].idl["spec"]["container"]["command"]) if p["name"] == "model"]
        assert (found["dest"], found["download"]) == ("/app/models/", True)


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ("nothing=x", "no app of the file has a parameter 'nothing'", "one:word, one:model"),
        ("two:model=x", "no app of the file has a parameter 'two:model'", "two:word"),
        ("three:word=x", "no app of the file has a parameter 'three:word'", "two:word"),
        ("word", "'word' is not a parameter with a value", "[APP:]NAME=VALUE"),
        ("=x", "'=x' is not a parameter with a value", "[APP:]NAME=VALUE"),
        (":word=x", "':word=x' is not a parameter with a value", "[APP:]NAME=VALUE"),
    ],
)
def test_a_value_for_nothing_is_refused(file: Path, given: str, said: str, hint: str) -> None:
    """Never ignored: it may be a typing error."""
    with pytest.raises((Unsupported, UserCodeFailed)) as raised:
        load_file(file, *ALL, f"--parameter={given}")
    assert said in raised.value.message
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ("data", "'data' is the output of a run .RunOutput., which only a Flyte cluster has"),
        ("art", "'art' is an artifact .ArtifactValue., which only a Flyte cluster has"),
        ("late", "'late' has no value"),
    ],
)
def test_what_has_no_value_is_named_with_what_to_type(file: Path, left: str, said: str) -> None:
    with pytest.raises(Unsupported, match=said) as raised:
        load_file(file, *(each for each in ALL if not each.startswith(f"--parameter={left}=")))
    assert f"--parameter {left}=" in raised.value.hint
