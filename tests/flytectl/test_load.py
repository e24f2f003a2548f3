"""The loader with the real SDK: what a good file gives."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import tarfile
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from flytectl.load import LOADER
from flytectl.loader import environments
from flyted.contract.errors import NOT_HERE
from tests.flytectl.loading import (
    APPS,
    BASIC_AUTH,
    DOCUMENT,
    FASTAPI,
    by_name,
    contents,
    load_file,
    load_for_real,
    needs_sdk,
    resolver,
    write,
)

if TYPE_CHECKING:
    pass


pytestmark = [pytest.mark.slow, needs_sdk]


def test_the_documents_fastapi_app(tmp_path, monkeypatch):
    """basic_auth.py, byte for byte, gives its IDL, its image's layers and a bundle of exactly itself."""
    file = Path(shutil.copy(BASIC_AUTH, tmp_path))
    monkeypatch.chdir(tmp_path)
    with load_for_real(file) as loaded:
        (app,) = loaded.apps
        assert (app.name, app.variable, app.kind, app.server) == ("authenticated-api", "env", "fastapi", True)
        assert contents(app) == {"basic_auth.py": file.read_bytes()}
        assert app.image is not None
        assert app.image["pythonVersion"] == "3.12"
        assert [layer["pipPackages"]["packages"] for layer in app.image["layers"]] == [["fastapi", "uvicorn"]]
        security = app.idl["spec"]["securityContext"]
        assert security["allowAnonymous"] is True
        assert security["secrets"] == [{"key": "API_KEY", "mountRequirement": "ENV_VAR", "envVar": "API_KEY"}]
        assert resolver(app) == "basic_auth:env"
        assert loaded.root == str(tmp_path)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_the_documents_llm_apps(engine, tmp_path):
    """vllm_with_auth.py and sglang_with_auth.py say which engine they are, and keep $AUTH_SECRET a name."""
    if importlib.util.find_spec("flyteplugins") is None or importlib.util.find_spec(f"flyteplugins.{engine}") is None:
        pytest.skip(f"needs flyteplugins-{engine}")
    file = Path(shutil.copy(DOCUMENT / f"{engine}_with_auth.py", tmp_path))
    with load_file(file) as loaded:
        (app,) = loaded.apps
        assert app.kind == engine
        assert "$AUTH_SECRET" in app.idl["spec"]["container"]["args"]


@pytest.fixture(scope="module")
def sink():
    """The apps of kitchen_sink.py, loaded once."""
    with load_file(APPS / "kitchen_sink.py", "--root", str(APPS)) as loaded:
        yield by_name(loaded)


def test_every_field_of_the_sdk(sink):
    """An environment of each form is translated; all that the SDK sends is in the document."""
    assert len(sink) == 9
    spec = sink["public"].idl["spec"]
    assert spec["ingress"] == {"subdomain": "shop", "cname": "shop.example.org"}
    assert spec["timeouts"] == {"requestTimeout": "90s"}
    assert [item["name"] for item in spec["inputs"]["items"]] == ["greeting", "upstream", "model", "data"]
    assert sink["own-command"].idl["spec"]["container"]["command"] == ["python", "-m", "http.server", "8000"]
    assert sink["scaled-by-number"].idl["spec"]["autoscaling"]["scaledownPeriod"] == "300s"


def test_requirement_files_travel_as_text(sink):
    """A requirements layer names a file; its text is in image_files under that very name."""
    app = sink["public"]
    assert app.image is not None
    named = [layer["requirements"]["file"] for layer in app.image["layers"] if "requirements" in layer]
    assert [app.image_files[name] for name in named] == [(APPS / "requirements.txt").read_text()]


def test_include_adds_files_to_the_bundle_of_that_app_alone(sink):
    """include= is relative to the declaring file, takes patterns, and does not leak into other apps' bundles."""
    assert set(contents(sink["public"])) == {"kitchen_sink.py", "data/one.txt", "requirements.txt"}
    assert set(contents(sink["bare"])) == {"kitchen_sink.py"}
    assert sink["bare"].bundle_fd == sink["pooled"].bundle_fd


def test_two_loads_give_the_same_answer(tmp_path):
    """An unchanged file gives the same IDL and the same bundle bytes, also after touch and chmod g-w."""
    file = write(tmp_path, "app.py", FASTAPI)
    with load_file(file) as first:
        os.utime(file, (1, 1))
        file.chmod(0o600)
        with load_file(file) as second:
            assert first.apps[0].idl == second.apps[0].idl
            assert first.apps[0].image == second.apps[0].image
            assert first.apps[0].bundle_sha256 == second.apps[0].bundle_sha256


def test_a_file_outside_of_the_working_directory(tmp_path, monkeypatch):
    """Its own folder is the root then: an absolute path works from anywhere."""
    file = write(tmp_path, "far/away/app.py", FASTAPI)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with load_file(file) as loaded:
        assert loaded.root == str(file.parent)
        assert resolver(loaded.apps[0]) == "app:env"


def test_a_name_with_spaces(tmp_path):
    """Spaces in folder and file are no trouble: the running app imports by name, and a space may be in one."""
    with load_file(write(tmp_path, "my folder/my app.py", FASTAPI)) as loaded:
        assert resolver(loaded.apps[0]) == "my app:env"
        assert set(contents(loaded.apps[0])) == {"my app.py"}


def test_dependencies_come_first(tmp_path):
    """depends_on orders the apps, and is in the answer as names; the file's order does not matter."""
    text = """
        import flyte.app
        class Late: pass
        front = flyte.app.AppEnvironment(name="front", args=["x"])
        middle = flyte.app.AppEnvironment(name="middle", args=["x"])
        base = flyte.app.AppEnvironment(name="base", args=["x"])
        front.add_dependency(middle, base)
        middle.add_dependency(base)
    """
    with load_file(write(tmp_path, "app.py", text)) as loaded:
        assert [app.name for app in loaded.apps] == ["base", "middle", "front"]
        assert [app.depends_on for app in loaded.apps] == [(), ("base",), ("middle", "base")]
    with load_file(tmp_path / "app.py", "--env", "middle") as loaded:
        assert [app.name for app in loaded.apps] == ["base", "middle"]


def test_one_environment_by_variable_or_by_app_name(tmp_path):
    """Both names work; an environment that two variables hold is served once, under the first."""
    text = """
        import flyte.app
        one = flyte.app.AppEnvironment(name="app-one", args=["x"])
        also_one = one
        two = flyte.app.AppEnvironment(name="app-two", args=["x"])
    """
    file = write(tmp_path, "app.py", text)
    with load_file(file) as loaded:
        assert [(app.variable, app.name) for app in loaded.apps] == [("one", "app-one"), ("two", "app-two")]
    for word in ("two", "app-two"):
        with load_file(file, "--env", word) as loaded:
            assert [app.name for app in loaded.apps] == ["app-two"]


def test_an_environment_that_a_helper_made(tmp_path):
    """The running app imports it from where the variable is, not from the file of the helper.

    The SDK alone would write `making:decoy`, the first environment in the helper's file.
    """
    write(
        tmp_path,
        "making.py",
        """
        import flyte.app
        decoy = flyte.app.AppEnvironment(name="decoy", args=["x"])
        def make(name):
            return flyte.app.AppEnvironment(name=name, args=["x"])
        """,
    )
    file = write(tmp_path, "app.py", "import making\nenv = making.make('made')\n")
    with load_file(file) as loaded:
        assert [(app.name, resolver(app)) for app in loaded.apps] == [("made", "app:env")]


def test_a_dependency_of_another_module_is_resolved_there(tmp_path):
    """An environment imported by way of its module is found in that module."""
    write(tmp_path, "other.py", "import flyte.app\nbase = flyte.app.AppEnvironment(name='base', args=['x'])\n")
    text = "import flyte.app, other\nenv = flyte.app.AppEnvironment(name='top', args=['x'], depends_on=[other.base])\n"
    with load_file(write(tmp_path, "app.py", text)) as loaded:
        assert [(app.name, resolver(app)) for app in loaded.apps] == [("base", "other:base"), ("top", "app:env")]


def test_what_the_file_prints_goes_to_stderr(tmp_path, capfd):
    """User code may print at import; stdout stays the command's own, and nothing of the SDK's is in between."""
    file = write(tmp_path, "app.py", "import os\nprint('printed')\nos.system('echo from a child')\n" + dedent(FASTAPI))
    with load_for_real(file) as loaded:
        assert loaded.apps[0].name == "hello"
    out, err = capfd.readouterr()
    assert out == ""
    assert sorted(err.splitlines()) == ["from a child", "printed"]


def test_main_is_not_run(tmp_path):
    """The part below ``if __name__ == "__main__"`` deploys by the SDK: not here."""
    file = write(tmp_path, "app.py", FASTAPI + "    if __name__ == '__main__': raise SystemExit('deployed')\n")
    with load_file(file) as loaded:
        assert loaded.apps[0].name == "hello"


def test_a_thread_of_the_users_does_not_hold_the_command(tmp_path):
    """A file that starts a thread which never ends is loaded all the same."""
    file = write(
        tmp_path,
        "app.py",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n" + dedent(FASTAPI),
    )
    with load_for_real(file) as loaded:
        assert loaded.apps[0].name == "hello"


def test_a_file_that_forks_gives_one_answer(tmp_path):
    """Two processes come back from the import: the one that was started answers, the other one is ended."""
    with load_file(write(tmp_path, "app.py", "import os\nos.fork()\n" + dedent(FASTAPI))) as loaded:
        assert [app.name for app in loaded.apps] == ["hello"]


def test_the_users_modules_are_not_hidden_by_ours(tmp_path):
    """Siblings of the user's may have the names of the loader's own files."""
    names = sorted(path.stem for path in LOADER.glob("[a-z]*.py"))
    for name in names:
        write(tmp_path, f"{name}.py", "VALUE = 'of the user'")
    lines = "".join(f"import {name}\nassert {name}.VALUE\n" for name in names)
    with load_for_real(write(tmp_path, "app.py", lines + dedent(FASTAPI))) as loaded:
        assert set(contents(loaded.apps[0])) == {"app.py"} | {f"{name}.py" for name in names}


def test_an_environment_below_the_root_is_not_on_the_apps_path(tmp_path, monkeypatch):
    """_F_SYS_PATH holds bundled folders only: a virtual environment below the root would be in it otherwise."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lib").mkdir()
    file = write(tmp_path, "src/app.py", FASTAPI)
    with load_for_real(file, PYTHONPATH=str(tmp_path / "lib")) as loaded:
        env = {pair["key"]: pair["value"] for pair in loaded.apps[0].idl["spec"]["container"]["env"]}
        assert env == {"_F_SYS_PATH": "./.:./src"}


def test_scope_is_in_the_translation(tmp_path):
    """Project and domain reach the SDK, which puts them into identifiers and subdomains."""
    file = write(tmp_path, "app.py", FASTAPI)
    with load_file(file, "--project", "shop", "--domain", "production") as loaded:
        assert loaded.apps[0].idl["metadata"]["id"] == {"project": "shop", "domain": "production", "name": "hello"}


def test_a_file_that_is_run_by_the_owner_stays_so(tmp_path):
    """Of a file's mode only that it is a program is kept: a umask is no new version."""
    write(tmp_path, "tool.sh", "#!/bin/sh\n").chmod(0o750)
    text = dedent(FASTAPI).replace("app=app", "app=app, include=['tool.sh']")
    with load_file(write(tmp_path, "app.py", text)) as loaded:
        (app,) = loaded.apps
        assert app.bundle_fd is not None
        with tarfile.open(fileobj=io.BytesIO(os.pread(app.bundle_fd, os.fstat(app.bundle_fd).st_size, 0))) as tar:
            assert {member.name: member.mode for member in tar} == {"app.py": 0o644, "tool.sh": 0o755}


def test_a_command_of_the_apps_own_is_not_touched(tmp_path):
    """Also not one that happens to start with fserve."""
    text = "import flyte.app\nenv = flyte.app.AppEnvironment(name='own', command=['fserve', '--', 'x', '--', 'y'])\n"
    with load_file(write(tmp_path, "app.py", text)) as loaded:
        assert loaded.apps[0].idl["spec"]["container"]["command"] == ["fserve", "--", "x", "--", "y"]


def test_tasks_are_named_and_the_app_is_loaded(tmp_path):
    """depends_on a TaskEnvironment, directly or through another app: Flyte would deploy them with the app."""
    file = write(
        tmp_path,
        "app.py",
        """
        import flyte, flyte.app
        work = flyte.TaskEnvironment(name="work")
        idle = flyte.TaskEnvironment(name="idle")
        @work.task
        async def add(a: int) -> int: return a
        back = flyte.app.AppEnvironment(name="back", args="x", depends_on=[work, idle])
        front = flyte.app.AppEnvironment(name="front", args="x", depends_on=[back, work])
        alone = flyte.app.AppEnvironment(name="alone", args="x")
        """,
    )
    with load_file(file) as loaded:
        assert loaded.tasks == ("idle", "work.add")
        assert {app.name: app.depends_on for app in loaded.apps} == {"back": (), "front": ("back",), "alone": ()}
    with load_file(file, "--env", "alone") as loaded:
        assert loaded.tasks == ()


def test_the_loader_says_of_tasks_what_everybody_says():
    """It imports nothing of ours."""
    assert environments.NOT_HERE == NOT_HERE
