"""The SDK inside an app: the context that Flyte's fserve gives it, and a reason where there is no control plane."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.harness import App, Unit, bundle, fserve

pytestmark = pytest.mark.slow

Keep = Callable[[App], App]
MakeUnit = Callable[..., Unit]
SOURCE = """
import json, sys, traceback
import flyte.app
env = flyte.app.AppEnvironment(name='x', requires_auth=False)

async def asked(what):
    import flyte, flyte.remote
    if what == "context":
        own = flyte.app.ctx()
        return [flyte.current_project(), flyte.current_domain(), own.project, own.domain, own.raw_data_path]
    if what == "endpoint":
        return env.endpoint
    if what == "in_cluster":
        await flyte.init_in_cluster.aio()
    if what == "passthrough":
        await flyte.init_passthrough.aio(project="p", domain="d")
    if what == "run":
        tasks = flyte.TaskEnvironment(name="t")
        @tasks.task
        async def f() -> int: return 1
        return await flyte.run.aio(f)
    return [each.name async for each in flyte.remote.App.listall.aio()]

async def app(scope, receive, send):
    if scope['type'] != 'http': raise RuntimeError
    try:
        said = await asked(scope['path'][1:])
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    await send({'type': 'http.response.start', 'status': 200, 'headers': []})
    await send({'type': 'http.response.body', 'body': json.dumps(said, default=repr).encode()})

@env.server
async def serve():
    import uvicorn
    await uvicorn.Server(uvicorn.Config(app)).serve()
"""


@pytest.fixture
def app(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> App:
    """An app that uses the SDK while it serves; flyted's unit has the project and the domain."""
    pytest.importorskip("flyte.app")
    names = {"FLYTE_INTERNAL_EXECUTION_PROJECT": "shop", "FLYTE_INTERNAL_EXECUTION_DOMAIN": "staging"}
    command = ["fserve", "--resolver-args", "a:env", "--"]  # what flyted keeps of it (contract/idl.py)
    return running(make_unit(variables=names).start(bundle(tmp_path, {"a.py": SOURCE}), command)).ready()


def test_the_sdk_knows_project_domain_and_folder(app: App) -> None:
    """``flyte.current_project()`` raised; ``raw_data_path`` was empty."""
    folder = app.unit.folder / "state" / "raw"
    assert app.get("/context")[1] == f'["shop", "staging", "shop", "staging", "{folder}"]'
    assert folder.is_dir()


@pytest.mark.parametrize("way", ["default", "in_cluster", "passthrough", "run"])
def test_what_needs_a_control_plane_fails_at_once_with_the_reason(app: App, way: str) -> None:
    """Not at host.docker.internal, which may be somebody; however the app makes its client."""
    start = time.monotonic()
    said = app.get(f"/{way}")[1]
    assert "flyted serves apps; tasks and runs need a Flyte cluster" in said, said
    assert "docker" not in said + app.err
    assert time.monotonic() - start < 20  # an import of the SDK is in it, no time-out of a network


def test_the_address_of_an_app_is_refused_with_the_reason(app: App) -> None:
    """What flytectl and the gateway did not see in the code (contract/endpoints.py)."""
    said = app.get("/endpoint")[1]
    assert "this app may not call app 'x': name it in depends_on" in said
    assert "--may-call x" in said


@pytest.mark.parametrize(("names", "allowed"), [("x", True), ("w,x,y", True), ("y", False)])
def test_the_address_of_an_app_that_it_may_call(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, names: str, allowed: bool
) -> None:
    """By the pattern that flyted sets, for the apps that flyted lets it call."""
    pytest.importorskip("flyte.app")
    unit = make_unit(variables={"INTERNAL_APP_ENDPOINT_PATTERN": "http://{app_fqdn}.apps.internal"})
    command = ["fserve", "--resolver-args", "a:env", "--"]
    code = bundle(tmp_path, {"a.py": SOURCE})
    app = running(unit.start(code, command, options=[*unit.options(code), "--calls", names])).ready()
    said = app.get("/endpoint")[1]
    assert (said == '"http://x.apps.internal"') is allowed
    assert ("may not call app 'x'" in said) is not allowed


def test_an_app_without_the_sdk_does_not_import_it(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """A wake pays nothing for it."""
    text = (
        "import sys\nprint(sorted(name for name in sys.modules if name.partition('.')[0] in ('flyte', 'pathlib')))\n"
    )
    app = running(make_unit().start(bundle(tmp_path, {"p.py": text}), fserve("", args=("python", "p.py"))))
    assert app.wait() == 0, app.err
    assert app.out == "[]\n"
