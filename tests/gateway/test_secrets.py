"""SecretService: scopes, values and errors, over the real protocol."""

from __future__ import annotations

from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.secret import definition_pb2 as definition
from flyteidl2.secret import payload_pb2 as pb

from flyted.contract.errors import AlreadyExists, FlytedError, SecretNotFound
from flyted.registry import logins
from tests.gateway.clients import ask, service
from tests.gateway.harness import Running

pytestmark = pytest.mark.slow

KNOWN = {
    "key": "API_KEY", "project": "", "domain": "", "generation": 1, "created_at": 1_700_000_000.0,
    "updated_at": 1_700_000_000.0, "damaged": False,
}  # fmt: skip


def secrets(gateway: Running):
    return service(gateway, "secret.secret_connect", "SecretService")


def create(**spec: Any) -> pb.CreateSecretRequest:
    return pb.CreateSecretRequest(
        id=definition.SecretIdentifier(name="API_KEY"),
        secret_spec=definition.SecretSpec(**(spec or {"binary_value": b"v"})),
    )


@pytest.mark.parametrize("spec", [{"binary_value": b"\x00\xff v"}, {"string_value": "wört"}], ids=["bytes", "text"])
def test_a_value_goes_to_flyted_as_bytes(gateway: Running, spec: dict[str, Any]) -> None:
    """The CLI sends bytes, the Python API text: both arrive as bytes, beside the message and not in it."""
    gateway.flyted.answers("secret.create", {"result": {"secret": KNOWN, "rolled": []}})
    ask(secrets(gateway).create_secret, create(**spec))
    ((verb, args, bulk),) = [call for call in gateway.flyted.calls if call[0] != "whoami"]
    sent = next(iter(spec.values()))
    assert (verb, bulk) == ("secret.create", sent if isinstance(sent, bytes) else str(sent).encode())
    assert {k: args[k] for k in ("project", "domain", "key", "replace", "roll")} == {
        "project": "", "domain": "", "key": "API_KEY", "replace": False, "roll": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AlreadyExists("secret 'API_KEY' is there already", hint="--replace"), Code.ALREADY_EXISTS),
        (SecretNotFound("there is no secret 'API_KEY'"), Code.NOT_FOUND),
    ],
)
def test_what_flyted_refuses_has_its_code_and_its_words(gateway: Running, error: FlytedError, code: Code) -> None:
    """The SDK decides by the code, people by the text."""
    gateway.flyted.answers("secret.create", error)
    with pytest.raises(ConnectError) as raised:
        ask(secrets(gateway).create_secret, create())
    assert raised.value.code is code
    assert error.message in raised.value.message


def test_a_secret_that_cannot_be_is_refused_here(gateway: Running) -> None:
    """An empty value never reaches flyted."""
    with pytest.raises(ConnectError) as raised:
        ask(secrets(gateway).create_secret, create(string_value=""))
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert gateway.flyted.verbs() == []


def test_a_secret_for_pulls_is_one_that_an_image_can_name(gateway: Running) -> None:
    """`flyte create secret --type image_pull`: the SDK makes a config.json of the login, which is the value."""
    credentials = pytest.importorskip("flyte._utils.docker_credentials")
    gateway.flyted.answers("secret.create", {"result": {"secret": KNOWN, "rolled": []}})
    value = credentials.create_dockerconfigjson_from_credentials("ghcr.io", "alice", "s3cret").encode()
    ask(
        secrets(gateway).create_secret,
        create(binary_value=value, type=definition.SECRET_TYPE_IMAGE_PULL_SECRET),
    )
    assert gateway.flyted.calls[-1][2] == value
    assert logins.read(value) == {"ghcr.io": logins.Login("alice", "s3cret")}


def test_a_list_comes_page_by_page(gateway: Running) -> None:
    """As the SDK asks: ten at a time, until the token is empty."""
    many = [{**KNOWN, "key": f"K{number}"} for number in range(25)]
    gateway.flyted.answers("secret.list", {"result": {"secrets": many}})
    names, token = [], ""
    for _ in range(3):
        answer = ask(secrets(gateway).list_secrets, pb.ListSecretsRequest(limit=10, token=token))
        names += [secret.id.name for secret in answer.secrets]
        token = answer.token
    assert (names, token) == ([secret["key"] for secret in many], "")


def test_what_is_known_has_no_value(gateway: Running) -> None:
    """Get answers with dates and presence."""
    gateway.flyted.answers("secret.get", {"result": KNOWN})
    found = ask(
        secrets(gateway).get_secret,
        pb.GetSecretRequest(id=definition.SecretIdentifier(name="API_KEY", organization="o")),
    ).secret
    assert found.id.name == "API_KEY"
    assert found.id.organization == "o"
    assert found.secret_metadata.secret_status.overall_status == definition.FULLY_PRESENT
    assert found.secret_metadata.created_time.seconds == 1_700_000_000
