"""What the SDK takes and does not send, and tasks beside apps: the real ``flyte``, before its first call.

What reaches an app is in ``tests/machine/test_fields.py``, against the real gateway.
"""

from __future__ import annotations

import importlib.util
import platform

import pytest

from flyted.companion import tasks
from flyted.contract.errors import NOT_HERE

from .conftest import Bench

pytestmark = pytest.mark.slow

MIXED = """
import asyncio, logging, sys
import flyte
from flyte.app import AppEnvironment, RunOutput
work = flyte.TaskEnvironment(name="work", image="auto")
@work.task
async def add(a: int) -> int: return a
env = AppEnvironment(name="one", image="auto", args=["x"], depends_on=[work])
"""
START = MIXED + "flyte.init_from_config()\n"


def run(bench: Bench, source: str, host: str = "flyted.localhost") -> tuple[int, str, str]:
    """A script with the SDK, connected to ``host``; (status, output, errors)."""
    bench.points_at(host)
    (bench.folder / "script.py").write_text(START + source)
    said = bench.python("script.py")
    return said.status, said.out, said.err


PLAN = """
from flyte._deploy import plan_deploy
for plan in plan_deploy(env, version="1"): print(sorted(plan.envs))
plan_deploy(env)
"""


def test_both_sides_have_the_same_words() -> None:
    """The companion imports nothing of ours."""
    assert tasks.NOT_HERE == NOT_HERE


def test_tasks_are_left_out_of_a_plan_and_named_once(bench: Bench) -> None:
    """So nothing is built or sent for them; towards another server they stay."""
    status, out, err = run(bench, PLAN)
    assert (status, out) == (0, "['one']\n")
    assert err == f"note: task work.add is not deployed: {NOT_HERE}\n"
    assert run(bench, PLAN, "127.0.0.1")[:2] == (0, "['one', 'work']\n")


@pytest.mark.parametrize("call", ["flyte.deploy(work)", "flyte.run(add, a=1)"])
def test_tasks_alone_fail_before_anything_is_built(bench: Bench, call: str) -> None:
    """Not after the image: that would take minutes."""
    status, out, err = run(bench, call)
    assert status == 1
    assert f"only task work.add: {NOT_HERE}" in out + err
    assert "Building image" not in out + err


def test_the_output_of_a_run_says_what_is_missing(bench: Bench) -> None:
    """The SDK says that it failed to materialize it."""
    status, out, err = run(bench, "asyncio.run(RunOutput(type='string', run_name='r1').get())")
    assert status == 1
    assert "a parameter is the output of a run, which does not exist here" in out + err


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("dry_run=True", "flyte.deploy(env, dry_run=True)"),
    ],
)
def test_what_would_be_dropped_is_refused_by_name(bench: Bench, field: str, said: str) -> None:
    """Of with_servecontext: before anything is built or sent."""
    status, out, err = run(bench, f"flyte.with_servecontext(mode='remote', {field}).serve(env)")
    assert status == 1
    assert "ValueError: app 'one': " in out
    assert said in out
    assert "Building image" not in out + err


@pytest.mark.parametrize("field", ["cluster_pool='gpus'", "cluster='east'"])
def test_a_cluster_has_no_effect_and_is_named(bench: Bench, field: str) -> None:
    """As in the file: it says on which machine the app runs, not how."""
    said = run(bench, f"flyte.with_servecontext(mode='remote', {field}).serve(env)")[2]
    assert f"note: {field} has no effect: flyted runs on one machine" in said


def test_variables_are_given_to_the_app_that_is_served_and_no_longer(bench: Bench) -> None:
    """Those of the caller, and what was asked of the log; the environment is afterwards what it was."""
    source = """
from flyted.companion import context
asked = flyte.with_servecontext(mode="remote", env_vars={"A": "1"}, log_level=logging.DEBUG)
print(sorted(context._variables(asked).items()), context._variables(flyte.with_servecontext(mode="remote")))
context._asked.set((env, {"A": "1"}))
with context.with_variables(env): print(env.env_vars)
with context.with_variables(work): print(work.env_vars)
print(env.env_vars)
"""
    status, out, err = run(bench, source)
    assert (status, err) == (0, "")
    assert out == "[('A', '1'), ('LOG_LEVEL', '10')] {}\n{'A': '1'}\nNone\nNone\n"


@pytest.mark.parametrize(
    "words",
    [
        ["serve", "--service-account", "robot", "one.py"],
        ["serve", "--name", "two", "one.py"],
        ["serve", "--image", "foo=bar", "one.py"],
        ["deploy", "--image", "foo=bar", "one.py"],
    ],
    ids=" ".join,
)
def test_options_without_an_effect_are_refused(bench: Bench, words: list[str]) -> None:
    """A usage error that names the option; towards another server they are the SDK's."""
    bench.points_at("flyted.localhost")
    said = bench.flyte(*words)
    assert said.status == 2
    assert words[1] in said.out + said.err
    bench.points_at("127.0.0.1")
    assert bench.flyte(*words) == bench.flyte(*words, companion=False)


def test_the_proxy_says_what_it_lacks(bench: Bench) -> None:
    """Without aiohttp the SDK ends with the name of a module."""
    if importlib.util.find_spec("aiohttp"):
        pytest.skip("it lacks nothing here")
    bench.points_at("flyted.localhost")
    said = bench.flyte("proxy", "app", "--url", "https://one.apps.localhost", "--port", "0")
    if "No such command" in said.out + said.err:
        pytest.skip("this SDK has no proxy")
    assert said.status == 1
    assert "pip install aiohttp" in said.out + said.err


def test_an_image_for_another_machine_is_refused(bench: Bench) -> None:
    """The SDK sends the platform to no remote builder; a flyted elsewhere may be another machine."""
    other = "arm64" if platform.machine() == "x86_64" else "amd64"
    image = f"flyte.Image.from_debian_base(platform=('linux/{other}',))"
    source = f"from flyte._deploy import plan_deploy\nenv.image = {image}\nprint(len(plan_deploy(env)))\n"
    status, out, err = run(bench, source)
    assert status == 1
    assert f"one: the image is for linux/{other} (platform=)" in out + err
    assert run(bench, source, "127.0.0.1")[0] == 0
