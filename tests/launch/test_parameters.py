"""Parameters: what Flyte's SDK writes is what its own function would make of it."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flyted.launch import parameters, workdir
from flyted.launch.refused import Refused
from tests.values import parameters_of

# the SDK warns when it is imported
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def test_the_sdk_and_launch_agree_on_strings_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same three results as fserve's sync_parameters, for strings here and for a file through the SDK itself."""
    app = pytest.importorskip("flyte.app")
    io = pytest.importorskip("flyte.io")
    sdk = pytest.importorskip("flyte._bin.serve")
    collection = pytest.importorskip("flyte.app._parameter").SerializableParameterCollection
    (tmp_path / "model.bin").write_bytes(b"weights")
    strings = [app.Parameter(name="a", value="x y", env_var="A_VAR"), app.Parameter(name="b", value="")]
    file = app.Parameter(name="f", value=io.File(path=str(tmp_path / "model.bin")), mount=f"{tmp_path}/mounted/")
    for number, declared in enumerate((strings, [*strings, file])):
        monkeypatch.chdir(tmp_path)
        text = collection.from_parameters(declared).to_transport
        theirs = asyncio.run(sdk.sync_parameters(text, str(tmp_path / f"theirs{number}")))
        shutil.rmtree(tmp_path / "mounted", ignore_errors=True)
        ours = parameters.decode(text, {"CACHE_DIRECTORY": str(tmp_path)}, bind=True)
        assert (ours.plain, ours.variables) == (theirs[0], theirs[2])
        assert {name: str(getattr(value, "path", value)) for name, value in ours.bound.items()} == {
            name: str(getattr(value, "path", value)) for name, value in theirs[1].items()
        }
    assert (tmp_path / "mounted" / "model.bin").read_bytes() == b"weights"


def test_they_are_published_for_the_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """flyte.app.get_parameter reads the file that the variable of the same name points to."""
    app = pytest.importorskip("flyte.app")
    monkeypatch.chdir(tmp_path)
    environ = {"CACHE_DIRECTORY": str(tmp_path / "cache"), "STATE_DIRECTORY": str(tmp_path / "state")}
    workdir.enter(None, environ)
    parameters.publish(parameters.Parameters({"a": "x"}, {"a": "x"}, {"A_VAR": "x"}), environ)
    assert environ["A_VAR"] == "x"
    monkeypatch.setenv("flyte-parameters.json", environ["flyte-parameters.json"])
    assert app.get_parameter("a") == "x"
    work = tmp_path / "state" / "work"
    assert [p.name for p in work.iterdir()] == ["flyte-parameters.json"]
    assert (work / "flyte-parameters.json").read_text() == '{"a": "x"}'


def endpoint(**fields: Any) -> dict[str, Any]:
    """A parameter that is another app's address."""
    value = json.dumps({"app_name": "other", "public": False, "type": "string", **fields})
    return {"name": "e", "value": value, "type": "app_endpoint", "download": False}


def test_the_address_of_another_app_comes_from_the_pattern() -> None:
    """As AppEndpoint._retrieve_endpoint: INTERNAL_APP_ENDPOINT_PATTERN, where flyted sets it."""
    environ = {"INTERNAL_APP_ENDPOINT_PATTERN": "https://{app_fqdn}.apps.localhost"}
    assert parameters.decode(parameters_of(endpoint()), environ).plain == {"e": "https://other.apps.localhost"}


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("!", {}),
        (base64.b64encode(b"no gzip").decode(), {}),
        (base64.b64encode(gzip.compress(b"{}", mtime=0)).decode(), {}),
        (base64.b64encode(gzip.compress(b"[1]", mtime=0)).decode(), {}),
        (base64.b64encode(gzip.compress(b"[" * 100_000, mtime=0)).decode(), {}),
        (parameters_of({"name": 1, "value": "x"}), {}),
        (parameters_of({"name": "a"}), {}),
        (parameters_of({"name": "a", "value": "x", "env_var": "LD_PRELOAD"}), {}),
        (parameters_of({"name": "a", "value": "x", "env_var": "A\n"}), {}),
        (parameters_of(endpoint()), {}),
        (parameters_of(endpoint(public=True)), {"INTERNAL_APP_ENDPOINT_PATTERN": "http://{app_fqdn}"}),
        (parameters_of(endpoint()), {"INTERNAL_APP_ENDPOINT_PATTERN": "http://{other}"}),
        (
            parameters_of({**endpoint(), "value": "[" * 100_000}),
            {"INTERNAL_APP_ENDPOINT_PATTERN": "http://{app_fqdn}"},
        ),
        (parameters_of({**endpoint(), "value": "no json"}), {"INTERNAL_APP_ENDPOINT_PATTERN": "http://{app_fqdn}"}),
    ],
)
def test_what_cannot_be_read_or_must_not_be_set_is_refused(text: str, environ: dict[str, str]) -> None:
    """Never a traceback of ours, never a variable that changes what runs."""
    with pytest.raises(Refused):
        parameters.decode(text, environ)
