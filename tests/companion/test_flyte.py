"""The real ``flyte`` and scripts with the real SDK: changed towards a flyted, and towards nobody else.

Nobody listens where these configurations point: what happens before the first call is all that is looked at here. The
rest is in ``tests/machine/test_document.py``, against the real gateway.
"""

from __future__ import annotations

import pytest

from .conftest import Bench

pytestmark = pytest.mark.slow

OTHER = "127.0.0.1"
SCRIPT = """
import sys
import flyte
from flyte._deploy import Deployment
flyte.init_from_config()
from flyte.app._deploy import DeployedAppEnvironment
from flyte.remote import App
from flyteidl2.app.app_definition_pb2 import App as Pb
from one import env
pb = Pb(); pb.status.ingress.public_url = "https://one.apps.localhost"
other = Pb(); other.status.ingress.public_url = "https://other"
apps = {"one": DeployedAppEnvironment(env, App(pb)), "other": DeployedAppEnvironment(env, App(other))}
deployment = Deployment(apps)
print(hasattr(deployment, "url"))
print(deployment.url)
"""
STOCK = [
    ["create", "secret", "KEY", "value"],
    ["create", "secret", "KEY", "-value"],
    ["serve", "one.py"],
    ["deploy", "one.py"],
    ["get", "app"],
]


@pytest.mark.parametrize("words", STOCK, ids=" ".join)
def test_towards_another_server_nothing_changes(bench: Bench, words: list[str]) -> None:
    """Standard output, standard error and exit status are those of ``flyte`` alone, to the byte."""
    bench.points_at(OTHER)
    assert bench.flyte(*words) == bench.flyte(*words, companion=False)


def test_a_script_for_another_server_is_the_sdks_own(bench: Bench) -> None:
    """A deployment has no ``url`` there, and the error is the SDK's."""
    bench.points_at(OTHER)
    (bench.folder / "script.py").write_text(SCRIPT)
    stock, said = (bench.python("script.py", companion=companion) for companion in (False, True))
    assert said.status == stock.status == 1
    assert said.out == stock.out
    assert said.out.startswith("False\n")
    assert "'Deployment' object has no attribute 'url'" in said.out


@pytest.mark.parametrize(("host", "more"), [("flyted.localhost", ""), (OTHER, f"flyted: {{host: {OTHER}}}\n")])
def test_a_flyted_is_known_by_its_name_or_its_mark(bench: Bench, host: str, more: str) -> None:
    """A deployment has the ``url`` of the app that was asked for."""
    bench.points_at(host, more)
    (bench.folder / "script.py").write_text(SCRIPT)
    said = bench.python("script.py")
    assert (said.status, said.out, said.err) == (0, "True\nhttps://one.apps.localhost\n", "")


def test_the_mark_of_another_host_is_none(bench: Bench) -> None:
    """A file that marks one host and points at another points at no flyted."""
    bench.points_at(OTHER, "flyted: {host: box.example.org}\n")
    assert bench.flyte("serve", "one.py") == bench.flyte("serve", "one.py", companion=False)


def test_a_file_named_on_the_command_line_counts(bench: Bench) -> None:
    """``flyte -c FILE`` towards a flyted, and ``--endpoint`` away from it."""
    bench.points_at(OTHER, f"flyted: {{host: {OTHER}}}\n")
    (bench.folder / "config.yaml").rename(bench.folder / "box.yaml")
    bench.points_at("other.invalid")
    assert "Usage:" not in bench.flyte("-c", "box.yaml", "serve", "one.py").out
    assert "Usage:" in bench.flyte("-c", "box.yaml", "--endpoint", "dns:///other.invalid:9", "serve", "one.py").out


def test_the_only_environment_needs_no_name(bench: Bench) -> None:
    """``serve`` and ``deploy`` go to work instead of printing a list; with two environments it is the list."""
    bench.points_at(OTHER, f"flyted: {{host: {OTHER}}}\n")
    for command in ("serve", "deploy"):
        said = bench.flyte(command, "one.py")
        assert said.status == 1
        assert "Usage:" not in said.out
        assert bench.flyte(command, "two.py") == bench.flyte(command, "two.py", companion=False)


def test_a_file_that_cannot_be_imported_is_told_by_flyte(bench: Bench) -> None:
    """The error of the user's file is the SDK's to show, once."""
    bench.points_at(OTHER, f"flyted: {{host: {OTHER}}}\n")
    (bench.folder / "broken.py").write_text("import nowhere\n")
    said = bench.flyte("serve", "broken.py")
    assert said.status == 1
    assert (said.out + said.err).count("No module named 'nowhere'") == 1
    assert "companion" not in said.err


def test_a_secret_goes_out_with_its_value(bench: Bench) -> None:
    """With NAME VALUE nothing is asked any more: what fails is the connection."""
    bench.points_at(OTHER, f"flyted: {{host: {OTHER}}}\n")
    said = bench.flyte("create", "secret", "KEY", "-my-value")
    assert said.status == 1
    assert "Enter secret value" not in said.out + said.err
    assert "-my-value" not in said.out + said.err
