"""What a file asks for and what becomes of it, by both front doors: honoured, said or refused; never silent."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.machine.people import alice, answer, by, curl, forget_apps, give, may_serve, refused
from tests.machine.stock import flyte, prepare, stock

HEAD = """
import os
import flyte
import flyte.app
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()
image = flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn")

@app.get("/")
def variables():
    return dict(os.environ)

"""
TOKENS = {"aws/token": "of-aws", "gcp/token": "of-gcp", "token": "of-none"}


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> Iterator[None]:
    prepare()
    may_serve()
    forget_apps("field-")
    yield
    forget_apps("field-")
    for key in TOKENS:
        by("alice", "flytectl", "secret", "delete", key)


def write(name: str, fields: str = "", more: str = "") -> str:
    """An app whose answer is its environment; the file's name."""
    call = f'env = FastAPIAppEnvironment(name="{name}", app=app, image=image, requires_auth=False, {fields})\n'
    return give(f"stock/{name.replace('-', '_')}.py", HEAD + call + more)


def variables(name: str) -> dict[str, str]:
    """What the app sees."""
    status, body = curl(answer("app", "get", name)["url"])
    assert status == 200, body
    found: dict[str, str] = json.loads(body)
    return found


def test_two_groups_have_two_secrets_of_one_key() -> None:
    """``Secret(group=)`` is a part of the name, by `flyte create secret` too; a secret without group is a third."""
    groups = ", ".join(f'flyte.Secret(key="token", group="{group}")' for group in ("aws", "gcp"))
    file = write("field-groups", f"secrets=[{groups}, flyte.Secret(key='token')]")
    alice("flytectl", "secret", "create", "token", "-", typed=TOKENS["token"])
    said = refused("flytectl", "serve", file, status=4)
    assert "flytectl secret create aws/token; flytectl secret create gcp/token" in said
    alice("flytectl", "secret", "create", "aws/token", "-", typed=TOKENS["aws/token"])
    flyte("create", "secret", "gcp/token", "--value", TOKENS["gcp/token"])
    alice("flytectl", "serve", file)
    seen = variables("field-groups")
    assert [seen[name] for name in ("AWS_TOKEN", "GCP_TOKEN", "TOKEN")] == list(TOKENS.values())
    assert set(TOKENS) <= {secret["key"] for secret in answer("secret", "ls")["secrets"]}
    assert "aws/token" in flyte("get", "secret", "aws/token").stdout


def test_what_an_app_does_without_is_said() -> None:
    """At serve, and afterwards wherever somebody looks; the app runs."""
    fields = (
        "scaling=flyte.app.Scaling(replicas=(0, 5), metric=flyte.app.Scaling.Concurrency(10)), "
        "resources=flyte.Resources(cpu=640, memory='90000Gi')"
    )
    said = alice("flytectl", "serve", write("field-much", fields)).stderr
    for words in (
        "replicas=(0, 5): at most one",
        "scaling.metric=Concurrency",
        "memory=87.9 TiB is more",
        "cpu=640 is",
    ):
        assert words in said
    assert len(answer("app", "get", "field-much")["unmet"]) == 2
    assert "Not done" in alice("flytectl", "app", "get", "field-much").stdout
    assert variables("field-much")


def test_a_cluster_pool_and_an_empty_project_are_not_taken_in_silence() -> None:
    """Their commands ended with 0 and had done something else, or nothing."""
    pool = stock("flyte", "create", "secret", "FIELD_POOL", "--value", "v", "--cluster-pool", "gpu")
    assert pool.returncode != 0
    assert "no cluster pool 'gpu'" in pool.stdout + pool.stderr
    project = stock("flyte", "create", "project", "--id", "field-empty", "--name", "Empty")
    assert project.returncode != 0
    assert "with its first app or secret" in project.stdout + project.stderr
    assert "FIELD_POOL" not in json.dumps(answer("secret", "ls", "--all"))
