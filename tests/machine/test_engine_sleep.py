"""Apps whose idle step is vLLM's sleep: the process stays, nobody else can put it to sleep, the next request wakes it.

The program is one with vLLM's endpoints, found where vLLM's would be.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.machine.kit import users
from tests.machine.kit.gpus import ONE, driver, has, holders, pid_of, serve, show
from tests.machine.kit.users import (
    alice,
    answer,
    by,
    curl,
    forget_apps,
    forget_secrets,
    give,
    refused,
    running,
    serving,
    until,
)

PROGRAM = Path(__file__).parents[1] / "apps" / "sleeping_engine.py"
MODULE = "vllm/entrypoints/openai/api_server.py"
KEY = "sleepy-key-1f7b2c"
SOURCE = """
import datetime
import flyte
import flyte.app

env = flyte.app.AppEnvironment(
    name={name!r}, args={args!r}, port=8080, requires_auth={auth}, include=["vllm/entrypoints/openai/api_server.py"],
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("waitress"),
    scaling=flyte.app.Scaling(replicas=(0, 1), scaledown_after=datetime.timedelta(seconds={after})),
    resources=flyte.Resources(cpu=1, memory="256Mi", gpu={gpu}),
    secrets=[flyte.Secret(key="SLEEPY_KEY", as_env_var="SLEEPY_KEY")] if {keyed} else None,
)
"""


@pytest.fixture(scope="module", autouse=True)
def _secret() -> Iterator[None]:
    alice("flytectl", "secret", "create", "SLEEPY_KEY", "-", "--replace", typed=KEY)
    yield
    forget_apps("")
    forget_secrets("SLEEPY_KEY")
    shutil.rmtree("/home/alice/vllm", ignore_errors=True)


@pytest.fixture(autouse=True)
def _none_left() -> None:
    """Each test begins with engines that nobody has put to sleep yet."""
    forget_apps("sleepy-")


def write(
    name: str, *options: str, keyed: bool = True, auth: bool = False, after: int = 600, gpu: str = "None"
) -> str:
    """The app's file in alice's home, and beside it the program, under vLLM's name."""
    give(MODULE, PROGRAM.read_text())
    words = ["python", "-m", "vllm.entrypoints.openai.api_server", "--port", "8080", *options]
    words += ["--api-key", "$SLEEPY_KEY"] if keyed else []
    return give(f"{name}.py", SOURCE.format(name=name, args=words, auth=auth, after=after, gpu=gpu, keyed=keyed))


def serve_sleeper(name: str, *options: str, idle: str = "sleep", **how: object) -> str:
    """Serves it; its URL."""
    file = write(name, *options, **how)  # type: ignore[arg-type]
    return users.serve(file, "--idle", idle)


def state(name: str) -> str:
    """The word for what an app is doing."""
    return str(answer("app", "get", name)["state"])


def asks(url: str) -> dict[str, object]:
    """A request that waits while the engine sleeps, as a chat does."""
    status, body = curl(f"{url}/v1/models")
    assert status == 200, body
    return dict(json.loads(body))


@pytest.mark.parametrize(
    ("idle", "calls"),
    [("sleep", ["sleep 1", "wake"]), ("sleep:2", ["sleep 2", "wake weights", "rpc", "wake kv_cache"])],
)
def test_an_idle_engine_sleeps_and_the_next_request_wakes_it(idle: str, calls: list[str]) -> None:
    """After scaledown_after without a request; the same process answers, and it sleeps again."""
    url = serve_sleeper("sleepy-idle", idle=idle, after=3)
    pid = asks(url)["pid"]
    for round_ in range(1, 3):
        until(lambda: state("sleepy-idle") == "sleeping", 60)
        shown = answer("app", "get", "sleepy-idle")
        assert shown["reason"].startswith(f"asleep, vLLM at level {idle[-1] if ':' in idle else 1}")
        assert [u["active"] for u in shown["units"] if u["name"].endswith(".service")] == ["active"]
        found = asks(url)
        assert found["pid"] == pid
        said = [re.sub("^rpc.*", "rpc", str(each)) for each in found["calls"]]  # type: ignore[attr-defined]
        assert said == calls * round_
        until(lambda: state("sleepy-idle") == "running")


def test_a_hundred_requests_wake_it_once() -> None:
    """All are held, all are answered; also with the daemon killed."""
    url = serve_sleeper("sleepy-many")
    pid = pid_of("sleepy-many")
    alice("flytectl", "app", "sleep", "sleepy-many")
    assert state("sleepy-many") == "sleeping"
    alice("flytectl", "app", "sleep", "sleepy-many")  # it does already
    assert (state("sleepy-many"), pid_of("sleepy-many")) == ("sleeping", pid)
    subprocess.run(["systemctl", "stop", "flyted.service"], check=True)
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda n: curl(f"{url}/v1/{n}"), range(100)))
    assert {status for status, _ in found} == {200}
    assert json.loads(found[-1][1])["calls"] == ["sleep 1", "wake"]
    assert (state("sleepy-many"), pid_of("sleepy-many")) == ("running", pid)


def test_a_restarted_daemon_knows_who_sleeps() -> None:
    """It is the unit that says so."""
    serve_sleeper("sleepy-known")
    alice("flytectl", "app", "sleep", "sleepy-known")
    subprocess.run(["systemctl", "kill", "-s", "KILL", "flyted.service"], check=True)
    until(lambda: show("flyted.service", "ActiveState") == "active")
    assert state("sleepy-known") == "sleeping"
    listed = alice("flytectl", "app", "ls").stdout
    assert re.search(r"^sleepy-known +sleeping", listed, re.MULTILINE), listed
    assert "by vLLM's sleep level 1" in alice("flytectl", "app", "get", "sleepy-known").stdout


@pytest.mark.parametrize("how", [{}, {"keyed": False}, {"auth": True, "keyed": False}], ids=["key", "open", "token"])
def test_nobody_outside_reaches_the_endpoints_of_its_sleep(how: dict[str, Any]) -> None:
    """Whatever guards the app, and however the path is written; what vLLM serves to people is open."""
    url = serve_sleeper("sleepy-shut", **how)
    token = alice("flytectl", "token").stdout.strip() if how.get("auth") else ""
    header = ("-H", f"Authorization: Bearer {token}") if token else ()
    for path in ("sleep?level=1", "wake_up", "collective_rpc", "server_info", "is_sleeping", "%73leep", "v1/../sleep",
                 "/sleep", "./sleep", "sleep/", "v1%2f..%2fsleep", "v1/..%2fsleep", "sleep;x", "SLEEP"):  # fmt: skip
        for method in ("GET", "POST"):
            status, body = curl(f"{url}/{path}", "--path-as-is", "-X", method, *header)
            assert status == 403, (path, status, body)
    assert curl(f"{url}/v1/models", *header)[0] == 200
    if not how.get("auth"):
        assert curl(f"{url}/health")[0] == 200
    assert state("sleepy-shut") == "running"


def test_no_other_app_reaches_them() -> None:
    """They are on a port in the app's own network, and on a socket that is the ingress's."""
    serve_sleeper("sleepy-alone")
    listening = subprocess.run(["ss", "-Hltn", "sport = :8080"], capture_output=True, text=True, check=True)
    assert listening.stdout == ""
    path = show(
        next(u["name"] for u in answer("app", "get", "sleepy-alone")["units"] if "socket" in u["name"]), "Listen"
    )
    assert by("alice", "curl", "-sS", "--unix-socket", path.split()[0], "http://x/sleep").returncode != 0


def test_it_is_refused_where_it_cannot_be() -> None:
    """Another program, an endpoint that would be opened, a replica that never idles, a level that is none."""
    give("port_server.py", "")
    plain = SOURCE.replace("vllm/entrypoints/openai/api_server.py", "port_server.py").format(
        name="sleepy-not", args=["python", "port_server.py"], auth=False, after=9, gpu="None", keyed=False
    )
    said = refused(*serving("--idle", "sleep", give("sleepy_not.py", plain)), status=2)
    assert "app 'default/development/sleepy-not'" in said or "sleepy-not" in said
    assert "--idle sleep is for apps that run vLLM" in said
    for path in ("/sleep", "/collective_rpc", "/"):
        said = refused(*serving("--idle", "sleep", "--open-path", path, write("sleepy-not")), status=2)
        assert "cannot be combined with --idle sleep" in said
    done = by("alice", *serving("--idle", "sleep:3", write("sleepy-not")))
    assert (done.returncode, "give freeze, stop, sleep or sleep:2" in done.stderr) == (2, True)


def test_what_does_not_sleep_is_stopped_and_what_does_not_wake_is_started_anew() -> None:
    """The request that woke it is answered by the new process."""
    url = serve_sleeper("sleepy-bad", "--bad", "no-sleep")
    alice("flytectl", "app", "sleep", "sleepy-bad")
    until(lambda: show(f"flyted-app-sleepy-bad-r{answer('app', 'get', 'sleepy-bad')['revision']}-0.service",
                       "ActiveState") == "inactive")  # fmt: skip
    assert state("sleepy-bad") == "sleeping"
    assert curl(f"{url}/v1/models")[0] == 200
    url = serve_sleeper("sleepy-bad", "--bad", "deaf")
    pid = asks(url)["pid"]
    alice("flytectl", "app", "sleep", "sleepy-bad")
    began = time.monotonic()
    assert asks(url)["pid"] != pid
    assert time.monotonic() - began < 25  # it is not waited for until systemd kills it
    log = alice("flytectl", "logs", "sleepy-bad", "-n", "50").stdout
    assert "vLLM did not wake up: POST /wake_up answers 500; it is restarted" in log


def test_a_new_revision_replaces_one_that_sleeps() -> None:
    """It is not woken for that."""
    url = serve_sleeper("sleepy-next")
    alice("flytectl", "app", "sleep", "sleepy-next")
    serve_sleeper("sleepy-next", idle="stop")
    assert asks(url)["calls"] == []
    alice("flytectl", "app", "sleep", "sleepy-next")
    assert not any(u["active"] == "active" for u in answer("app", "get", "sleepy-next")["units"]
                   if u["name"].endswith(".service"))  # fmt: skip


def test_a_sleeper_keeps_its_gpu_until_another_app_wants_it() -> None:
    """Then it is stopped, as an idle app is, and starts when its turn comes; a busy one is not touched."""
    with driver():
        has(ONE)
        url = serve_sleeper("sleepy-gpu", gpu="1")
        uuid = answer("app", "get", "sleepy-gpu")["gpu"]["devices"][0]["uuid"]
        alice("flytectl", "app", "sleep", "sleepy-gpu")
        time.sleep(6)  # one that was asked for a moment ago is left alone (plan/gpus/lease.py)
        assert list(holders(uuid)) == ["sleepy-gpu"]
        other = serve("sleepy-other")
        assert curl(f"{other}/")[0] == 200
        assert list(holders(uuid)) == ["sleepy-other"]
        shown = answer("app", "get", "sleepy-gpu")
        assert (shown["state"], [u["active"] for u in shown["units"] if "service" in u["name"]]) in (
            ("sleeping", ["inactive"]), ("sleeping", []),
        )  # fmt: skip
        with running("curl", "-sS", f"{other}/hold"):
            until(lambda: answer("app", "get", "sleepy-other")["requests"]["in_flight"] == 1)
            assert curl(f"{other}/release")[0] == 200
        assert asks(url)["calls"] == []
        assert list(holders(uuid)) == ["sleepy-gpu"]
