"""Files and folders as parameters: there before the app starts, where its file says; and nothing on the machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit.units import must
from tests.machine.kit.users import alice, answer, curl, forget_apps, give, refused, serve, warm_python
from tests.s3 import Storage, storage

OUTER = "192.0.2.33"  # documentation address (RFC 5737) of this machine's own: apps do not reach its loopback
SHOWN = Path("/srv/parameters")
SOURCE = """
import os
from pathlib import Path
import flyte, flyte.io
import flyte.app
from fastapi import FastAPI
from flyte.app import Parameter, get_parameter
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()
seen = {{}}

@app.get("/")
def root(path: str):
    place = Path(path)
    if place.is_dir():
        found = [Path(top, name) for top, _, names in os.walk(place) for name in names]
        return {{str(each.relative_to(place)): each.read_text() for each in found}}
    return place.read_text() if place.exists() else None

@app.get("/told")
def told():
    names = [name for name in {names} if name]
    return {{
        "parameters": {{name: get_parameter(name) for name in names}}, "model": os.environ.get("MODEL"), "seen": seen
    }}

@app.get("/io")
async def io(to: str = ""):
    Path("own.txt").write_text("of the app")
    target = to or flyte.app.ctx().raw_data_path + "/kept.txt"
    file = await flyte.io.File.from_local("own.txt", remote_destination=target)
    async with file.open("rb") as stream:
        return [file.path, bytes(await stream.read()).decode()]

@app.get("/write")
def write(path: str):
    Path(path).write_text("x")

env = FastAPIAppEnvironment(
    name={name!r}, app=app, requires_auth=False,
    image=flyte.Image.from_debian_base(python_version=(3, {minor})).with_pip_packages("fastapi", "uvicorn"){layers},
    parameters=[{parameters}], env_vars={env!r},
)

@env.on_startup
def remember(word: str = "", model: flyte.io.File = None):
    seen.update(word=word, model=getattr(model, "path", model))
"""


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    SHOWN.mkdir(exist_ok=True)
    (SHOWN / "model.bin").write_text("weights")
    yield
    forget_apps("parameter-")
    must("rm", "-r", str(SHOWN))


@pytest.fixture
def s3() -> Iterator[Storage]:
    must("ip", "address", "replace", f"{OUTER}/32", "dev", "lo")
    try:
        with storage(OUTER) as found:
            yield found
    finally:
        must("ip", "address", "del", f"{OUTER}/32", "dev", "lo")


def write(
    name: str, *parameters: str, layers: str = "", env: dict[str, str] | None = None, names: tuple[str, ...] = ()
) -> str:
    given = ", ".join(f"Parameter({each})" for each in parameters)
    minor = 11 if layers else 13  # what Debian has itself in an image of layers
    text = SOURCE.format(
        minor=minor, name=name, parameters=given, layers=layers, env=env or {}, names=repr([*names, ""])
    )
    return give(f"{name.replace('-', '_')}.py", text)


def read(url: str, path: str) -> object:
    status, body = curl(f"{url}/?path={path}")
    assert status == 200, body
    return json.loads(body)


ROOT = ".with_commands(['mkdir -p /app/models && echo own >/app/models/own'])"


@pytest.mark.parametrize(
    ("layers", "value", "mount", "place", "text"),
    [
        ("", SHOWN / "model.bin", "/app/models/", "/app/models/model.bin", "weights"),
        (ROOT, "/app/models/own", "/root/m/", "/root/m/own", "own\n"),
    ],
    ids=["venv", "root"],
)
def test_a_file_is_where_its_mount_says(layers: str, value: object, mount: str, place: str, text: str) -> None:
    """In an environment of packages and in an image's own root; after a wake too; the machine's root is as before."""
    before = sorted(Path("/").iterdir())
    model = f'name="model", value=flyte.io.File(path="{value}"), mount="{mount}", env_var="MODEL"'
    url = serve(write("parameter-mount", 'name="word", value="hello"', model, layers=layers, names=("word", "model")))
    for _ in range(2):
        assert read(url, place) == text
        told = json.loads(curl(f"{url}/told")[1])
        assert told["parameters"] == told["seen"] == {"word": "hello", "model": place}
        assert told["model"] == place
        alice("flytectl", "app", "sleep", "parameter-mount")
    assert sorted(Path("/").iterdir()) == before
    assert curl(f"{url}/write?path=/usr/x")[0] == 500
    assert curl(f"{url}/write?path=/app.txt")[0] == 500
    alice("flytectl", "app", "delete", "--yes", "parameter-mount")


def test_what_is_in_a_storage_is_fetched_when_it_changes(s3: Storage) -> None:
    """With the credentials of the app's own variables; a wake fetches nothing that it has."""
    s3.objects |= {"b/data/one.csv": b"1", "b/data/sub/two.csv": b"2", "b/m.bin": b"old"}
    data = 'name="data", value=flyte.io.Dir(path="s3://b/data/"), mount="/app/data"'
    model = 'name="model", value=flyte.io.File(path="s3://b/m.bin"), env_var="MODEL"'
    url = serve(write("parameter-s3", data, model, env=s3.variables()))
    assert read(url, "/app/data") == {"one.csv": "1", "sub/two.csv": "2"}
    path = json.loads(curl(f"{url}/told")[1])["model"]
    assert read(url, path) == "old"
    before = len(s3.fetched())
    alice("flytectl", "app", "sleep", "parameter-s3")
    assert read(url, "/app/data") == {"one.csv": "1", "sub/two.csv": "2"}
    assert len(s3.fetched()) == before
    s3.objects["b/m.bin"] = b"new"
    alice("flytectl", "app", "sleep", "parameter-s3")
    path = json.loads(curl(f"{url}/told")[1])["model"]
    assert read(url, path) == "new"
    assert len(s3.fetched()) == before + 1
    path, text = json.loads(curl(f"{url}/io")[1])
    assert path.startswith("/var/lib/"), "without a storage of its own, an app's raw data is a folder of its data"
    assert text == "of the app"
    assert json.loads(curl(f"{url}/io?to=s3://b/out.txt")[1]) == ["s3://b/out.txt", "of the app"]
    assert s3.objects["b/out.txt"] == b"of the app"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("/srv/parameters/none", "No such file or directory"),
        ("/dev/zero", "it is neither a file nor a folder"),
        ("/home/alice/parameter_bad.py", "apps cannot see home folders"),
    ],
)
def test_a_file_that_is_none_fails_the_start_with_its_name(value: str, said: str) -> None:
    """At once, and not at a request."""
    file = write("parameter-bad", f'name="model", value=flyte.io.File(path="{value}")')
    why = refused("flytectl", "serve", "--python", warm_python(), file, status=8)
    assert f"parameter 'model' ('{value}') cannot be used: {said}" in why


def test_a_mount_on_the_machines_own_folders_is_refused() -> None:
    """Before anything is built."""
    file = write("parameter-bad", 'name="model", value=flyte.io.File(path="/srv/x"), mount="/etc/models/"')
    said = refused("flytectl", "serve", "--python", warm_python(), file, status=2)
    assert "a parameter cannot be shown in '/etc/models'" in said


def test_values_are_given_when_it_is_served() -> None:
    """In place of what the file says, and of what only a cluster has."""
    output = 'name="model", value=flyte.app.RunOutput(type="file", run_name="r"), mount="/mnt/m.bin"'
    file = write("parameter-given", 'name="word", value="x"', output, names=("word",))
    assert "--parameter model=" in refused("flytectl", "serve", "--python", warm_python(), file, status=2)
    url = serve(file, "--parameter", "word=given", "--parameter", f"model={SHOWN}/model.bin")
    assert json.loads(curl(f"{url}/told")[1])["parameters"] == {"word": "given"}
    assert read(url, "/mnt/m.bin") == "weights"
    assert answer("app", "get", "parameter-given")["revision"] == 1
