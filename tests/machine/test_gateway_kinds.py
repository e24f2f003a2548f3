"""Every kind of app through the stock `flyte deploy`: a server function, a program with a port, an app with a GPU."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit import gpus, programs
from tests.machine.kit.gateway import STATE
from tests.machine.kit.pypi_flyte import FOLDER, flyte, prepare, refused
from tests.machine.kit.users import alice, answer, by, curl, give, until

FUNCTION = """
import flyte
import flyte.app

env = flyte.app.AppEnvironment(
    name="stock-function", requires_auth=False, parameters=[flyte.app.Parameter(name="greeting", value="hello")],
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("uvicorn"),
)


def asgi(words):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": words.encode()})

    return app


@env.server
async def serve(greeting):
    import uvicorn

    await uvicorn.Server(uvicorn.Config(asgi(f"{greeting} from a function"), port=8080, lifespan="off")).serve()
"""


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    prepare()


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    for name in ("stock-function", "stock-port", "stock-gpu"):
        by("alice", "flytectl", "app", "delete", "--yes", "--data", name)


def stocked(*files: str) -> str:
    """Alice's files in the folder of the stock CLI; the first one's name there."""
    for name in files:
        shutil.copyfile(Path("/home/alice", name), FOLDER / name)
        shutil.chown(FOLDER / name, "alice", "alice")
    return files[0]


def asked(name: str, path: str = "/") -> str:
    """What an app answers, once it is up: `flyte deploy` does not wait for that."""
    until(lambda: answer("app", "get", name)["state"] in ("running", "sleeping"), 300)
    status, body = curl(answer("app", "get", name)["url"] + path)
    assert status == 200, body
    return body


def test_a_server_function_with_its_parameter() -> None:
    """Flyte's own starter calls it there; here it is given the socket that systemd holds."""
    give("stock/stock_function.py", FUNCTION)
    flyte("deploy", "stock_function.py", "env")
    assert asked("stock-function") == "hello from a function"


def test_a_program_that_opens_its_port() -> None:
    """``args``: in a network of its own, with its arguments; asleep, and awake again."""
    words = programs.port_server("--version", "given-in-the-file", "--port", "8123")
    file = programs.write("stock-port", words, port=8123)
    flyte("deploy", stocked(file, "port_server.py"), "env")
    assert "given-in-the-file" in asked("stock-port")
    alice("flytectl", "app", "sleep", "stock-port")
    assert "given-in-the-file" in asked("stock-port")


def test_a_deploy_that_goes_on_is_cancelled_by_a_deletion() -> None:
    """`flyte deploy` has long returned; `flyte delete app` ends what it began, and no failure is kept of it."""
    flyte(
        "deploy", stocked(programs.write("stock-port", programs.port_server("--late", "600")), "port_server.py"), "env"
    )
    until(lambda: any("activating" in unit["active"] for unit in answer("app", "get", "stock-port")["units"]), 300)
    flyte("delete", "app", "stock-port")
    assert "not found" in refused("get", "app", "stock-port").lower()
    assert "stock-port" not in alice("flytectl", "app", "ls", "--all").stdout


def test_a_command_has_no_code_of_the_users() -> None:
    """``command`` runs as it is, as on a cluster: a program of the image; and why one is not found is told."""
    flyte(
        "deploy", stocked(programs.write("stock-port", ["python", "-m", "http.server", "8080"], how="command")), "env"
    )
    assert "Directory listing" in asked("stock-port")
    flyte("deploy", stocked(programs.write("stock-port", programs.port_server(), how="command")), "env")
    until(lambda: answer("app", "get", "stock-port")["last_failure"] is not None, 120)
    assert "No such file or directory" in answer("app", "get", "stock-port")["last_failure"]["reason"]
    assert "Directory listing" in asked("stock-port")


FAILS = """
import flyte, flyte.app

env = flyte.app.AppEnvironment(
    name="stock-port", requires_auth=False, port=8080, command=["python", "-m", "http.server", "8080"],
    image=(
        flyte.Image.from_debian_base(python_version=(3, 11))
        .with_commands(["echo first"]).with_commands(["echo to the user; exit 7"])
    ),
)
"""


def test_the_error_of_a_build_names_the_layer() -> None:
    """In the run that the SDK waits for: the layer, its command, and what that said last."""
    give("stock/stock_fails.py", FAILS)
    assert "layer 2 of the image: echo to the user" in refused("deploy", "stock_fails.py", "env")
    run = max((STATE / "runs").glob("r*"), key=lambda path: path.stat().st_mtime_ns)
    error = json.loads(run.read_text())["error"]
    assert error.startswith("layer 2 of the image: echo to the user; exit 7: exited with status 7\n  to the user"), (
        error
    )
    assert "stock-port" not in alice("flytectl", "app", "ls", "--all").stdout


def test_an_app_with_a_gpu() -> None:
    """``gpu="L40s:1"`` is a lease, as with flytectl; what is not there is refused with what is."""
    file = stocked(gpus.write("stock-gpu", '"L40s:1"'))
    with gpus.driver():
        gpus.has(gpus.TWO)
        flyte("deploy", file, "env")
        seen = json.loads(asked("stock-gpu"))["cuda"]
        assert list(gpus.holders(seen)) == ["stock-gpu"]
        assert answer("app", "get", "stock-gpu")["gpu"]["name"] == "L40S"
        said = refused("deploy", stocked(gpus.write("stock-gpu", '"H100:2"')), "env")
        assert "needs 2 × H100; this machine has none: 2 × NVIDIA L40S (45.0 GiB)" in said
        assert json.loads(asked("stock-gpu"))["cuda"] == seen
        alice("flytectl", "app", "delete", "--yes", "--data", "stock-gpu")
