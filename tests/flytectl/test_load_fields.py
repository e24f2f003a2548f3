"""Fields in the spellings that the SDK allows, from a file to what flyted is sent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput, UserCodeFailed
from flyted.contract.idl import spec_of
from tests.flytectl.loading import load_file, needs_sdk, write

pytestmark = [pytest.mark.slow, needs_sdk]

HEAD = """
    import datetime, flyte
    from flyte.app import *
    from flyte.app import Subdomain
"""
SCOPE = ("--project", "p1", "--domain", "staging")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def specs(fields: str, more: str = "") -> dict[str, AppSpec]:
    """What flyted is sent of a file, by the app's name."""
    text = f'{HEAD}    env = AppEnvironment(name="app", args="serve", {fields})\n{more}'
    with load_file(write(Path.cwd(), "fields_app.py", text), *SCOPE) as loaded:
        return {app.name: spec_of(app.idl, project="p1", domain="staging") for app in loaded.apps}


def spec(fields: str) -> AppSpec:
    return specs(fields)["app"]


@pytest.mark.parametrize(
    ("subdomain", "label"),
    [
        ("'shop'", "shop"),
        ("Subdomain.from_app_name('shop', project_domain_suffix='default')", "shop-p1-staging"),
        ("Subdomain.from_function(lambda env, context: f'{env.name}-of-{context.project}')", "app-of-p1"),
        ("None", ""),
    ],
)
def test_a_subdomain(subdomain: str, label: str) -> None:
    """Made of the project and domain for which it is served."""
    assert spec(f"domain=Domain(subdomain={subdomain})").subdomain == label


def test_a_subdomain_with_a_hash() -> None:
    """Of project and domain, by the SDK's own rule."""
    label = spec("domain=Domain(subdomain=Subdomain.from_app_name('shop'))").subdomain
    assert label.startswith("shop-")
    assert hashlib.sha256(b"p1-staging").hexdigest().startswith(label.removeprefix("shop-"))


@pytest.mark.parametrize(
    ("fields", "cores", "mebibytes"),
    [
        ("cpu=1, memory='512Mi'", 1.0, 512),
        ("cpu='250m', memory='1Gi'", 0.25, 1024),
        ("cpu=0.5, memory='0.5Gi'", 0.5, 512),
        ("cpu=('250m', '2'), memory=('256Mi', '1Gi')", 2.0, 1024),
        ("cpu=(1, 2), memory=('1Gi', '1Gi')", 2.0, 1024),
        ("memory='536870912'", 0.0, 512),
    ],
)
def test_resources(fields: str, cores: float, mebibytes: int) -> None:
    """Fractions and ranges: the limit if there is one."""
    found = spec(f"resources=flyte.Resources({fields})")
    assert (found.cpu_cores, found.memory_bytes) == (cores, mebibytes << 20)


@pytest.mark.parametrize("memory", ["'512'", "'512MB'", "'-1Gi'"])
def test_memory_that_is_none(memory: str) -> None:
    """512 are bytes, as in Kubernetes; the hint says how it is meant."""
    with pytest.raises(InvalidInput) as raised:
        spec(f"resources=flyte.Resources(memory={memory})")
    assert "Mi" in raised.value.hint


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ("cpu=(2, 1)", r"resources.cpu=\('2', '1'\) asks for more than its limit"),
        ("cpu=('1500m', '1')", r"resources.cpu=\('1500m', '1'\) asks"),
        ("memory=('2Gi', '1500Mi')", r"resources.memory=\('2Gi', '1500Mi'\) asks"),
    ],
)
def test_a_range_whose_end_is_before_its_beginning(resources: str, said: str) -> None:
    """A cluster refuses it too."""
    with pytest.raises(InvalidInput, match=said):
        spec(f"resources=flyte.Resources({resources})")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("scaling=Scaling(scaledown_after=-1)", "scaling.scaledown_after '-1s' is not valid"),
        ("scaling=Scaling(scaledown_after=10**12)", "refuses this environment: .*scaledown_period"),
        ("parameters='x'", "app: 'x' in parameters is not a flyte.app.Parameter"),
        ("parameters=[5]", "app: 5 in parameters is not a flyte.app.Parameter"),
        ("port=0", "0 is not a TCP port"),
    ],
)
def test_what_the_sdk_takes_and_cannot_be_is_named(fields: str, said: str) -> None:
    """It is the file that is wrong, not the SDK."""
    with pytest.raises((InvalidInput, UserCodeFailed), match=said):
        spec(fields)


def test_a_clone_is_an_app_of_its_own() -> None:
    """With its own name and fields, and the code of the same file."""
    found = specs(
        "port=8081, env_vars={'A': '1'}",
        "    two = env.clone_with('two', env_vars={'A': '2'}, port=8082, scaling=Scaling(replicas=(1, 1)))\n",
    )
    assert {name: (each.container_port, each.env, each.min_replicas) for name, each in found.items()} == {
        "app": (8081, (("A", "1"),), 0),
        "two": (8082, (("A", "2"),), 1),
    }


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ("timeouts=Timeouts(request=30)", "request_timeout_s", 30.0),
        ("timeouts=Timeouts(request=datetime.timedelta(minutes=2))", "request_timeout_s", 120.0),
        ("scaling=Scaling(scaledown_after=60)", "scaledown_after_s", 60.0),
        ("scaling=Scaling(replicas=1)", "min_replicas", 1),
        ("links=[Link(path='/docs', title='Docs', is_relative=True)]", "links", (("Docs", "/docs"),)),
        ("links=[Link(path='https://x.org/a', title='X')]", "links", (("X", "https://x.org/a"),)),
        ("cluster_pool='gpu'", "unmet", ("cluster_pool='gpu' has no effect: flyted runs on one machine",)),
        ("cluster='east'", "unmet", ("cluster='east' has no effect: flyted runs on one machine",)),
        ("interruptible=True", "unmet", ()),
        ("description='d', type='t'", "description", "d"),
        ("requires_auth=True", "requires_auth", True),
    ],
)
def test_a_field(fields: str, name: str, value: object) -> None:
    assert getattr(spec(fields), name) == value


@pytest.mark.parametrize(
    ("secrets", "targets"),
    [
        ("'token'", [("token", "TOKEN", "")]),
        ("['a', flyte.Secret('b')]", [("a", "A", ""), ("b", "B", "")]),
        ("flyte.Secret('db-url', group='team')", [("team/db-url", "TEAM_DB_URL", "")]),
        ("flyte.Secret('k', as_env_var='NAME')", [("k", "NAME", "")]),
        ("flyte.Secret('k', mount='/etc/flyte/secrets')", [("k", "", "k")]),
        ("flyte.Secret('k', group='g', mount='/etc/flyte/secrets')", [("g/k", "", "k")]),
    ],
)
def test_secrets(secrets: str, targets: list[tuple[str, str, str]]) -> None:
    """As a variable or a file, with the SDK's default names."""
    found = spec(f"secrets={secrets}").secrets
    assert [(use.key, use.env, use.file) for use in found] == targets
