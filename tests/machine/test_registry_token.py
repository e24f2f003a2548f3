"""A token of a registry that expires while an image is pulled for a build by ``flyte``: it gets another one."""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit import hub as hubs
from tests.machine.kit import roots, token_service
from tests.machine.kit.hub import PLATFORM, Hub, tar_of
from tests.machine.kit.pypi_flyte import flyte, prepare, refused
from tests.machine.kit.token_service import HOST, SERVICE, Registry
from tests.machine.kit.units import sh
from tests.machine.kit.users import alice, forget_secrets, give, until
from tests.registry.server import LAYER

pytestmark = pytest.mark.long

LAYERS = 24
APP = """
import flyte, flyte.app
env = flyte.app.AppEnvironment(
    name="short-token", command=["python3", "-m", "http.server", "8080"],
    image=flyte.Image.from_base("%s/team/app:%s").clone(name="mine", extendable=True).with_commands(["echo above"]),
)
"""


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """The registry, with an image of many layers that no pull has seen."""
    prepare()
    debian = Path("/srv/flyted-test-token-debian.tar")
    debian.unlink(missing_ok=True)
    roots.bootstrap(debian, ("python3", "ca-certificates"))
    names = f'"{HOST}" = "https://{HOST}"\n"{SERVICE}" = "https://{SERVICE}"'
    with hubs.serving() as hub, hubs.trusted(hub, more=names), token_service.serving(hub) as made:
        push(hub, "long", debian.read_bytes())
        push(hub, "other", debian.read_bytes())
        alice("flytectl", "secret", "create", "hub-login", "-", "--replace", typed=login("s3cret"))
        yield made
        forget_secrets("hub-login")
    debian.unlink()


def push(hub: Hub, tag: str, debian: bytes) -> None:
    """Push a Debian with layers above it whose content is new."""
    layers = [tar_of((f"{tag}-{number}", os.urandom(3 << 20))) for number in range(LAYERS)]
    hub.image(tag, [(tar, LAYER) for tar in (debian, *layers)], PLATFORM.partition("/")[2])


def login(password: str) -> str:
    """What `docker login` writes, for the registry that wants tokens."""
    return json.dumps({"auths": {HOST: {"auth": base64.b64encode(f"alice:{password}".encode()).decode()}}})


def test_a_token_that_expires_in_the_pull_of_a_build(registry: Registry) -> None:
    """The registry stands still until the token has ended; what is asked for then is refused, and asked for anew."""
    paused = threading.Thread(target=pause, args=(registry,))
    paused.start()
    said = flyte("build", give("stock/short_token.py", APP % (HOST, "long"))[6:], "env")
    paused.join()
    assert "flyted:" in said.stdout + said.stderr
    statuses = registry.answers()
    assert "401" in statuses[statuses.index("200") :], "no token ended in the middle"
    assert statuses.count("200") >= LAYERS
    assert len(registry.issued) >= 3, "one to look the tag up, one to pull, and another one"
    nowhere(*registry.issued)


def pause(registry: Registry) -> None:
    """Once the first blobs have been sent, stop the registry for longer than a token lives."""
    until(lambda: registry.answers().count("200") >= 2, 300)
    registry.process.send_signal(signal.SIGSTOP)
    time.sleep(token_service.LIFE_S + 2)
    registry.process.send_signal(signal.SIGCONT)


def test_a_login_that_ends_in_the_pull_of_a_build_is_named(registry: Registry) -> None:
    """No further token is issued: the build fails, says which registry refused, and shows no token."""
    issued = len(registry.issued)
    alice("flytectl", "secret", "create", "hub-login", "-", "--replace", typed=login("wrong"))
    try:
        said = refused("build", give("stock/short_token.py", APP % (HOST, "other"))[6:], "env")
    finally:
        alice("flytectl", "secret", "create", "hub-login", "-", "--replace", typed=login("s3cret"))
    assert f"{HOST} refuses the login for team/app" in said
    assert len(registry.issued) == issued
    assert not any(token in said for token in registry.issued)


def nowhere(*tokens: str) -> None:
    """No token is in the journal or in what flyted and the gateway keep."""
    journal = sh("journalctl", "-q", "-o", "export", "--since=-15min")
    signatures = [each.rpartition(".")[2] for each in tokens]
    assert not any(each in journal for each in signatures)
    for each in signatures[:3]:
        assert sh("grep", "-rlF", each, "/var/lib/flyted/roots", "/var/lib/private/flyted-gateway") == ""
