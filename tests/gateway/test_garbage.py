"""What strangers send: never a traceback, never a text of a parser's or an exception's, always a code."""

from __future__ import annotations

import gzip
import http.client
import importlib
import json
import struct
import time
from pathlib import Path
from typing import Any

import flyteidl2
import pytest
from flyteidl2.secret import definition_pb2 as definition
from flyteidl2.secret import payload_pb2 as secret
from flyteidl2.task import task_definition_pb2 as task_definition
from flyteidl2.task import task_service_pb2 as tasks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyted.contract.errors import NOT_HERE
from flyted.gateway.errors import FAULT
from flyted.gateway.limits import MESSAGE_BYTES
from flyted.gateway.services.registry import SERVICES
from flyted.gateway.services.tasks import BESIDE_S
from tests.gateway.harness import TOKEN, Running

pytestmark = pytest.mark.slow

BEARER = {"Authorization": f"Bearer {TOKEN}"}
SECRET = "/flyteidl2.secret.SecretService/CreateSecret"
PERMANENT = {
    "invalid_argument", "unimplemented", "resource_exhausted", "failed_precondition", "not_found", "unauthenticated",
    "already_exists", "permission_denied",
}  # fmt: skip


def send(
    gateway: Running, path: str, body: bytes, headers: dict[str, str], method: str = "POST"
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    if answer.headers.get("content-encoding") == "gzip":
        data = gzip.decompress(data)
    if answer.headers.get("content-type", "").startswith("application/connect+"):
        flags, size = struct.unpack("!BI", data[:5])
        data = data[5 : 5 + size]
        data = gzip.decompress(data) if flags & 1 else data
        return answer.status, json.loads(data).get("error", {})
    try:
        return answer.status, json.loads(data)
    except ValueError:
        return answer.status, {"text": data.decode("utf-8", "replace")}


def proto(**more: str) -> dict[str, str]:
    return {**BEARER, "Content-Type": "application/proto", **more}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic eDp5"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer flyted_short"},
        {"Authorization": f"Bearer {TOKEN[:-1]}x"},
        {"Authorization": f"Bearer {TOKEN} {TOKEN}"},
    ],
)
@pytest.mark.parametrize("path", [SECRET, "/flyteidl2.app.AppService/Get", "/flyteidl2.nothing.Service/Get"])
def test_without_a_good_token_nothing_is_read(gateway: Running, path: str, headers: dict[str, str]) -> None:
    """Whatever the call, its body is not looked at, and flyted is asked for nothing but the token."""
    status, answer = send(gateway, path, b"\xff" * 100, {"Content-Type": "application/proto", **headers})
    assert (status, answer["code"]) == (401, "unauthenticated")
    assert gateway.flyted.verbs() == []


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"\xff\xff", proto(), "invalid_argument"),
        (b"{", {**BEARER, "Content-Type": "application/json"}, "invalid_argument"),
        (b'{"nope": 1}', {**BEARER, "Content-Type": "application/json"}, "invalid_argument"),
        (b"not gzip", proto(**{"Content-Encoding": "gzip"}), "invalid_argument"),
        (gzip.compress(b"x", mtime=0)[:-4], proto(**{"Content-Encoding": "gzip"}), "invalid_argument"),
        (b"", proto(**{"Content-Encoding": "br"}), "unimplemented"),
        (b"", {**BEARER, "Content-Type": "application/grpc"}, "invalid_argument"),
        (b"", {**BEARER, "Content-Type": "text/plain"}, "invalid_argument"),
        (b"", {**BEARER}, "invalid_argument"),
        (b"", proto(**{"Connect-Protocol-Version": "9"}), "invalid_argument"),
        (b"", proto(**{"Connect-Timeout-Ms": "soon"}), "invalid_argument"),
    ],
)
def test_a_body_that_makes_no_sense(gateway: Running, body: bytes, headers: dict[str, str], code: str) -> None:
    """Each kind of nonsense has its code; none is an internal error."""
    status, answer = send(gateway, SECRET, body, headers)
    assert answer.get("code") == code, (status, answer)
    assert "Traceback" not in str(answer)
    assert "Error" not in answer["message"]


def test_a_header_that_is_no_text(gateway: Running) -> None:
    """Bytes that are not UTF-8 in a header are refused as such."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    connection.putrequest("POST", SECRET)
    for name, value in proto(**{"Content-Length": "0"}).items():
        connection.putheader(name, value)
    connection.putheader("X-Odd", b"\xff\xfe")
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (400, "invalid_argument")
    connection.close()


def test_a_message_of_100_mib_is_refused_before_it_is_sent(gateway: Running) -> None:
    """Its length is told first: the answer comes without a byte of it."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    connection.putrequest("POST", SECRET)
    for name, value in proto(**{"Content-Length": str(100 << 20)}).items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (429, "resource_exhausted")
    connection.close()


def test_a_message_without_a_length_is_bounded_as_it_comes(gateway: Running) -> None:
    """A chunked body stops being read a little above the bound."""
    block = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    connection.putrequest("POST", SECRET)
    for name, value in proto(**{"Transfer-Encoding": "chunked"}).items():
        connection.putheader(name, value)
    connection.endheaders()
    for _ in range(MESSAGE_BYTES // 0x10000 + 2):
        connection.send(block)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (429, "resource_exhausted")
    connection.close()


def test_a_bomb_is_not_unpacked(gateway: Running) -> None:
    """1 GiB of zeros in one MiB of gzip: refused at the bound."""
    bomb = gzip.compress(b"\0" * (64 << 20), 9)
    status, answer = send(gateway, SECRET, bomb * 16, proto(**{"Content-Encoding": "gzip"}))
    assert (status, answer["code"]) == (429, "resource_exhausted")


def test_a_fault_of_ours_is_told_without_its_text(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception's words stay in the journal."""

    async def broken(*_: object, **__: object) -> None:
        raise KeyError("x")

    call = gateway.parts.daemon.call
    monkeypatch.setattr(
        gateway.parts.daemon,
        "call",
        lambda kind, verb, *a, **k: (broken if verb == "secret.get" else call)(kind, verb, *a, **k),
    )
    body = secret.GetSecretRequest(id=definition.SecretIdentifier(name="K")).SerializeToString()
    status, answer = send(gateway, "/flyteidl2.secret.SecretService/GetSecret", body, proto())
    assert (status, answer) == (500, {"code": "internal", "message": FAULT})


METHODS = sorted(
    f"/{service}/{method}"
    for service, methods in {
        "flyteidl2.app.AppService": ["Create", "Get", "Update", "List", "Delete", "Watch", "UpdateStatus", "Lease"],
        "flyteidl2.app.AppLogsService": ["TailLogs"],
        "flyteidl2.secret.SecretService": ["CreateSecret", "UpdateSecret", "GetSecret", "ListSecrets", "DeleteSecret"],
        "flyteidl2.dataproxy.DataProxyService": ["CreateUploadLocation", "UploadInputs", "GetActionData"],
        "flyteidl2.imagebuilder.ImageService": ["GetImage"],
        "flyteidl2.task.TaskService": ["ListTasks", "GetTaskDetails", "DeployTask"],
        "flyteidl2.workflow.RunService": ["CreateRun", "GetRunDetails", "WatchActionDetails", "AbortRun", "ListRuns"],
        "flyteidl2.project.ProjectService": ["ListProjects", "GetProject", "CreateProject"],
        "flyteidl2.cluster.ClusterService": ["SelectCluster"],
        "flyteidl2.auth.IdentityService": ["UserInfo"],
        "flyteidl2.auth.AuthMetadataService": ["GetOAuth2Metadata", "GetPublicClientConfig"],
    }.items()
    for method in methods
)
STREAMS = ("Watch", "Lease", "TailLogs", "WatchActionDetails")


def test_the_list_of_services_is_whole() -> None:
    """The garbage below reaches each service that there is."""
    assert {path.split("/")[1] for path in METHODS} == set(SERVICES)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("path", METHODS)
def test_random_messages_are_answered_with_a_code(gateway: Running, path: str, data: st.DataObject) -> None:
    """Random bytes, and random fields of the right wire types: an answer, or a code that says whose fault it was.

    The stand-in for flyted refuses every verb, so what gets that far is "invalid" too.
    """
    field = st.tuples(st.integers(1, 15), st.binary(max_size=40)).map(
        lambda pair: bytes([pair[0] << 3 | 2, len(pair[1])]) + pair[1]
    )
    body = data.draw(st.one_of(st.binary(max_size=200), st.lists(field, max_size=6).map(b"".join)))
    if path.endswith(STREAMS):
        message = struct.pack("!BI", 0, len(body)) + body
        headers = {**BEARER, "Content-Type": "application/connect+proto"}
    else:
        message, headers = body, proto()
    status, answer = send(gateway, path, message, headers)
    assert status == 200 or answer.get("code") in PERMANENT, (status, answer)
    if answer.get("code"):
        assert answer["code"] in PERMANENT, answer
        assert "Traceback" not in answer["message"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_rpc_is_a_post(gateway: Running, method: str) -> None:
    """Nothing else reaches a handler."""
    status, answer = send(gateway, SECRET, b"", proto(), method)
    assert (status, answer["code"]) == (400, "invalid_argument")
    assert gateway.flyted.verbs() == []


def everything_of_flyte() -> list[tuple[str, bool]]:
    """(path, whether it streams) of every method of every service in Flyte's API, as the SDK's package has them."""
    found = []
    for path in sorted(Path(flyteidl2.__path__[0]).rglob("*_pb2.py")):
        name = ".".join(("flyteidl2", *path.relative_to(flyteidl2.__path__[0]).with_suffix("").parts))
        for service in importlib.import_module(name).DESCRIPTOR.services_by_name.values():
            found += [(f"/{service.full_name}/{m.name}", m.server_streaming) for m in service.methods]
    return found


def test_what_is_not_here_is_said_in_a_sentence(gateway: Running) -> None:
    """Of all of Flyte's API, and of what a newer one will have: never "Not implemented" or a bare 404."""
    newer = [("/flyteidl2.app.AppService/Teleport", False), ("/flyteidl2.trigger.TriggerService/DeployTrigger", False)]
    said = {}
    for path, streams in [*everything_of_flyte(), *newer]:
        kind = "application/connect+proto" if streams else "application/proto"
        body = struct.pack("!BI", 0, 0) if streams else b""
        if path.rpartition("/")[2] in WAITING:
            continue
        _, answer = send(gateway, path, body, {**BEARER, "Content-Type": kind})
        if answer.get("code") == "unimplemented":
            said[path] = answer["message"]
        else:
            assert "implemented" not in str(answer), (path, answer)
    assert len(said) > 60
    for path, message in said.items():
        service, _, method = path.removeprefix("/").partition("/")
        assert message == f"{service.rpartition('.')[2]}/{method} is not supported: {NOT_HERE}"


WAITING = {"DeployTask"}  # see test_tasks_are_refused_after_the_apps_beside_them


def test_tasks_are_refused_after_the_apps_beside_them(gateway: Running) -> None:
    """The SDK deploys both at once and leaves at the first error: the apps have been asked for by then."""
    began = time.monotonic()
    body = tasks.DeployTaskRequest(task_id=task_definition.TaskIdentifier(name="env.main")).SerializeToString()
    status, answer = send(gateway, "/flyteidl2.task.TaskService/DeployTask", body, proto())
    assert (status, answer["code"]) == (400, "failed_precondition")
    assert "task 'env.main' was not deployed" in answer["message"]
    assert NOT_HERE in answer["message"]
    assert time.monotonic() - began > BESIDE_S / 2
