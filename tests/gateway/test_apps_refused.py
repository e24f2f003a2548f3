"""AppService: what it refuses, with its cure."""

from __future__ import annotations

import io
import shutil
import tarfile

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.app import app_definition_pb2 as definition
from flyteidl2.app import app_payload_pb2 as pb
from flyteidl2.core import tasks_pb2
from google.protobuf import duration_pb2

from flyted.contract.errors import InvalidInput, SecretNotFound
from tests.gateway.app_service import KEY, Held, apps, create
from tests.gateway.clients import ask
from tests.gateway.described import CODE, app, bundle
from tests.gateway.harness import Running

pytestmark = pytest.mark.slow
NEWER = bytes([0xFA, 0x3E, 1]) + b"x"  # field 1007, a text


REFUSED: list[tuple[definition.App, str]] = [
    (app(image="localhost:30000/flyte:abc"), "image.builder: remote"),
    (app(image="flyted.localhost/flyte:abc"), "serve the app again"),
    (app(pod=tasks_pb2.K8sPod()), "pod_template"),
    (app(ingress=definition.IngressConfig(private=True)), "private"),
    (app(autoscaling=definition.AutoscalingConfig(replicas=definition.Replicas(min=70, max=70))), "replicas"),
    (app(desired_state=definition.Spec.DESIRED_STATE_STOPPED), "--deactivate"),
]


@pytest.mark.parametrize(("made", "cure"), REFUSED, ids=[cure for _, cure in REFUSED])
def test_what_this_machine_cannot_do_is_named_with_its_cure(gateway: Running, made: definition.App, cure: str) -> None:
    """FAILED_PRECONDITION, which the SDK does not try again; flyted is not even asked."""
    if cure == "pod_template":
        made.spec.pod.primary_container_name = "main"
    with pytest.raises(ConnectError) as raised:
        create(gateway, made)
    assert raised.value.code is Code.FAILED_PRECONDITION
    assert cure in raised.value.message
    assert gateway.flyted.verbs() == []


OUT_OF_RANGE = [
    definition.Spec(autoscaling=definition.AutoscalingConfig(scaledown_period=duration_pb2.Duration(seconds=10**15))),
    definition.Spec(timeouts=definition.TimeoutConfig(request_timeout=duration_pb2.Duration(seconds=5, nanos=-5))),
    definition.Spec(pod=tasks_pb2.K8sPod(pod_spec={"x": float("nan")})),
]


@pytest.mark.parametrize("spec", [definition.Spec(), definition.Spec(container=tasks_pb2.Container()), *OUT_OF_RANGE])
def test_a_description_that_is_none_is_the_clients_fault(gateway: Running, spec: definition.Spec) -> None:
    """Not "internal", which the SDK would repeat: no command, or what protobuf's JSON cannot say."""
    made = app()
    if spec in OUT_OF_RANGE:
        made.spec.MergeFrom(spec)
    else:
        made.spec.CopyFrom(spec)
    with pytest.raises(
        ConnectError, match="needs a command" if spec not in OUT_OF_RANGE else "out of range"
    ) as raised:
        create(gateway, made)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert gateway.flyted.verbs() == []


def test_a_bundle_that_is_gone_names_the_clients_cache(gateway: Running) -> None:
    """The client believes for a day that it has sent it."""
    place = bundle(gateway)
    for blob in (gateway.state / "blobs").iterdir():
        blob.unlink()
    with pytest.raises(ConnectError) as raised:
        create(gateway, app(place))
    assert (raised.value.code, "flyte delete local-cache" in raised.value.message) == (Code.FAILED_PRECONDITION, True)


def test_a_description_that_cannot_be_kept_says_why(gateway: Running) -> None:
    """A full disk is the machine's fault, which the SDK does not repeat; flyted is not asked."""
    shutil.rmtree(gateway.state / "specs")
    with pytest.raises(ConnectError, match=r"cannot store the description of app .*: No such file") as raised:
        create(gateway, app(bundle(gateway)))
    assert raised.value.code is Code.FAILED_PRECONDITION
    assert gateway.flyted.verbs() == []


def test_a_bundle_may_have_been_uploaded_for_another_project(gateway: Running) -> None:
    """``with_servecontext(project="p2")``: the SDK uploads for the project of its configuration all the same.

    Nobody gains anything: who has a token that gets here may do everything in every project.
    """
    held = Held(gateway)
    held.may_end.set()
    made = app(bundle(gateway))
    made.metadata.id.project = "p2"
    create(gateway, made)
    assert held.file == CODE
    (spec,) = [args["spec"] for verb, args, _ in gateway.flyted.calls if verb == "app.serve"]
    assert spec["key"]["project"] == "p2"


def test_the_apps_that_it_may_call_are_found_in_its_code(gateway: Running) -> None:
    """Flyte's API does not say what an app depends on."""
    code = b"""
back = AppEnvironment(name="back")
env = AppEnvironment(name="hello", depends_on=[back])
def handler(): return back.endpoint
"""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("m.py")
        entry.size = len(code)
        tar.addfile(entry, io.BytesIO(code))
    Held(gateway).may_end.set()
    create(gateway, app(bundle(gateway, buffer.getvalue())))
    (spec,) = [args["spec"] for verb, args, _ in gateway.flyted.calls if verb == "app.serve"]
    assert spec["calls"] == ["back"]
    assert spec["unmet"] == []


@pytest.mark.parametrize("part", ["spec", "metadata", "container"])
def test_a_field_of_a_newer_sdk_is_refused(gateway: Running, part: str) -> None:
    """protobuf would drop it without a word."""
    made = app()
    {"spec": made.spec, "metadata": made.metadata, "container": made.spec.container}[part].MergeFromString(NEWER)
    with pytest.raises(ConnectError, match=r"number 1007 of flyteidl2\.") as raised:
        create(gateway, made)
    assert raised.value.code is Code.FAILED_PRECONDITION
    assert gateway.flyted.verbs() == []


@pytest.mark.parametrize(
    "url", ["/etc/passwd", "flyted://p1/development/../../x", "s3://b/x", "flyted://p1/development/x/y"]
)
def test_a_bundle_from_elsewhere_is_not_taken(gateway: Running, url: str) -> None:
    """Only what we gave out is a bundle; no path is ever opened."""
    made = app(bundle(gateway))
    command = list(made.spec.container.command)
    command[command.index("--tgz") + 1] = url
    del made.spec.container.command[:]
    made.spec.container.command.extend(command)
    with pytest.raises(ConnectError) as raised:
        create(gateway, made)
    assert raised.value.code is Code.INVALID_ARGUMENT


def test_a_missing_secret_is_the_apps_fault(gateway: Running) -> None:
    """Not NOT_FOUND, which would speak of the app."""
    gateway.flyted.answers(
        "app.serve", SecretNotFound("app 'hello' needs secret 'K'", hint="flytectl secret create K")
    )
    with pytest.raises(ConnectError) as raised:
        create(gateway, app())
    assert raised.value.code is Code.FAILED_PRECONDITION
    assert "flytectl secret create K" in raised.value.message


@pytest.mark.parametrize("name", ["", "Hello", "a_b", "x" * 64, "../x", "a\nb"])
def test_a_bad_name_is_refused(gateway: Running, name: str) -> None:
    """Before anything is looked up."""
    for call, request in (
        (apps(gateway).get, pb.GetRequest(app_id=app(name=name).metadata.id)),
        (apps(gateway).delete, pb.DeleteRequest(app_id=app(name=name).metadata.id)),
        (apps(gateway).create, pb.CreateRequest(app=app(name=name))),
    ):
        with pytest.raises(ConnectError) as raised:
            ask(call, request)
        assert raised.value.code is Code.INVALID_ARGUMENT
    assert gateway.flyted.verbs() == []


def test_what_flyted_finds_wrong_is_the_rpcs_error(gateway: Running) -> None:
    """Before it accepts: the client hears it from Create and not from a watch."""
    gateway.flyted.answers("app.serve", InvalidInput("the secrets are too large", hint="store less"))
    with pytest.raises(ConnectError) as raised:
        create(gateway, app())
    assert (raised.value.code, raised.value.message) == (
        Code.INVALID_ARGUMENT, "the secrets are too large (hint: store less)",
    )  # fmt: skip
    assert gateway.parts.jobs.deploy_of(KEY) is None
