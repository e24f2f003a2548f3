"""AppService: what becomes of a description, which state the SDK is told, and what is refused, with its cure."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import shutil
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.app import app_definition_pb2 as definition
from flyteidl2.app import app_payload_pb2 as pb
from flyteidl2.common import list_pb2
from flyteidl2.core import tasks_pb2
from google.protobuf import duration_pb2, json_format

from flyted.contract.app import AppSpec, from_dict, to_dict
from flyted.contract.errors import Busy, DeployFailed, FlytedError, InvalidInput, SecretNotFound
from flyted.contract.idl import spec_of
from flyted.contract.names import AppKey
from flyted.gateway.idl import specs as specs_module
from flyted.gateway.idl.specs import Specs
from tests.answers import app_status
from tests.gateway.clients import HEADERS, ask, first, service
from tests.gateway.described import BASE, CODE, app, bundle
from tests.gateway.harness import NO_APP, Running

pytestmark = pytest.mark.slow

Status = definition.Status
NEWER = bytes([0xFA, 0x3E, 1]) + b"x"  # field 1007, a text
KEY = AppKey("p1", "development", "hello")


def apps(gateway: Running) -> Any:
    return service(gateway, "app.app_service_connect", "AppService")


def last(answer: definition.App) -> definition.Condition:
    return answer.status.conditions[-1]


def accepted(args: dict[str, Any]) -> dict[str, Any]:
    spec = from_dict(args["spec"])
    event = {"kind": "accepted", "text": "checked", "revision": 2, "url": "https://hello.apps.localhost"}
    return {"event": {**event, "spec_digest": spec.digest()}}


class Held:
    """A deploy that flyted has accepted and that ends when a test says how."""

    def __init__(self, gateway: Running) -> None:
        self.end: dict[str, Any] | FlytedError = {"result": {"app": app_status(revision=2), "changed": True}}
        self.may_end = threading.Event()
        self.file = b""
        gateway.flyted.scripts["app.serve"] = self._script

    def _script(self, args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        self.file = file
        yield accepted(args)
        yield {"event": {"kind": "progress", "text": "starting p1/development/hello (revision 2)"}}
        assert self.may_end.wait(30)
        yield {"error": self.end.to_wire()} if isinstance(self.end, FlytedError) else self.end


def create(gateway: Running, made: definition.App) -> definition.App:
    return ask(apps(gateway).create, pb.CreateRequest(app=made)).app


def get(gateway: Running) -> definition.App:
    return ask(apps(gateway).get, pb.GetRequest(app_id=app().metadata.id)).app


def watch(gateway: Running, count: int) -> list[definition.App]:
    found = first(apps(gateway).watch, pb.WatchRequest(app_id=app().metadata.id), count)
    return [answer.update_event.updated_app for answer in found]


def test_a_description_reaches_flyted_with_its_bundle(gateway: Running) -> None:
    """The container command without what changes at each run, the image, the bundle's digest and its descriptor."""
    held = Held(gateway)
    create(gateway, app(bundle(gateway)))
    held.may_end.set()
    spec = next(args for verb, args, _ in gateway.flyted.calls if verb == "app.serve")["spec"]
    assert held.file == CODE
    assert spec["key"] == {"project": "p1", "domain": "development", "name": "hello"}
    assert spec["command"] == [
        "fserve", "--resolver", "flyte._internal.resolvers.app_env.AppEnvResolver", "--resolver-args", "m:env", "--",
    ]  # fmt: skip
    assert spec["image"]["spec"] == {"baseImage": "ghcr.io/flyteorg/flyte:py3.12-v2.12.1", "pythonVersion": "3.12"}


def test_create_answers_pending_while_the_deploy_goes_on(gateway: Running) -> None:
    """Pending is last although an old revision serves, or the SDK would say "served" at once."""
    held = Held(gateway)
    gateway.flyted.answers("app.get", {"result": {"app": app_status(), "spec": {}}})
    answer = create(gateway, app())
    assert last(answer).deployment_status == Status.DEPLOYMENT_STATUS_PENDING
    assert answer.status.ingress.public_url == "https://hello.apps.localhost"
    assert answer.metadata.revision == 2
    assert last(get(gateway)).deployment_status == Status.DEPLOYMENT_STATUS_PENDING
    held.may_end.set()


def test_a_new_app_can_be_asked_for_before_flyted_has_it(gateway: Running) -> None:
    """While its image is built there is no such app in flyted yet; the client knows better."""
    held = Held(gateway)
    gateway.flyted.answers("app.get", NO_APP)
    create(gateway, app())
    assert get(gateway).spec.container.command[0] == "fserve"
    held.may_end.set()


def test_watch_tells_the_end_of_a_deploy(gateway: Running) -> None:
    """Pending first, then active, without another client having to ask."""
    held = Held(gateway)
    gateway.flyted.answers("app.get", {"result": {"app": app_status(revision=2), "spec": {}}})
    create(gateway, app())
    threading.Timer(0.3, held.may_end.set).start()
    states = [last(found).deployment_status for found in watch(gateway, 2)]
    assert states == [Status.DEPLOYMENT_STATUS_PENDING, Status.DEPLOYMENT_STATUS_ACTIVE]


def test_watch_tells_a_failure_and_why_though_the_old_revision_serves(gateway: Running) -> None:
    """The watcher wants to know about its deploy; get tells what serves; the next change is no longer a failure."""
    held = Held(gateway)
    held.end = DeployFailed(
        "revision 2 of app 'hello' did not come up: it ran out of memory", hint="flytectl logs hello"
    )
    failed = app_status(last_failure={"revision": 2, "reason": "it ran out of memory"})
    gateway.flyted.answers("app.get", {"result": {"app": failed, "spec": {}}})
    gateway.flyted.answers("app.start", {"result": failed})
    create(gateway, app())
    held.may_end.set()
    while gateway.parts.jobs.busy:
        pass
    (seen,) = watch(gateway, 1)
    assert last(seen).deployment_status == Status.DEPLOYMENT_STATUS_FAILED
    assert last(seen).substate == Status.OOM_KILLED
    assert "ran out of memory" in last(seen).message
    shown = get(gateway)
    states = [condition.deployment_status for condition in shown.status.conditions]
    assert states == [Status.DEPLOYMENT_STATUS_FAILED, Status.DEPLOYMENT_STATUS_ACTIVE]
    ask(apps(gateway).update, pb.UpdateRequest(app=shown, reason="again"))
    assert last(watch(gateway, 1)[0]).deployment_status == Status.DEPLOYMENT_STATUS_ACTIVE


def test_an_unchanged_app_is_active_at_once(gateway: Running) -> None:
    """Nothing to wait for: flyted said that nothing changed."""
    gateway.flyted.answers("app.serve", {"result": {"app": app_status(), "changed": False}})
    assert last(create(gateway, app())).deployment_status == Status.DEPLOYMENT_STATUS_ACTIVE


def test_two_deploys_of_one_app_wait_for_each_other(gateway: Running) -> None:
    """Flyted says "busy" to a second one: the client waits instead of seeing that."""
    turns: Iterator[list[dict[str, Any] | FlytedError]] = iter(
        [[Busy("a deploy of 'hello' is already in progress")], [{"result": {"app": app_status(), "changed": False}}]]
    )

    def script(args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        for frame in next(turns):
            yield {"error": frame.to_wire()} if isinstance(frame, FlytedError) else frame

    gateway.flyted.scripts["app.serve"] = script
    assert last(create(gateway, app())).deployment_status == Status.DEPLOYMENT_STATUS_ACTIVE
    assert gateway.flyted.verbs() == ["app.serve", "app.serve"]


@pytest.mark.parametrize(
    ("state", "wanted", "status"),
    [
        ("running", "started", Status.DEPLOYMENT_STATUS_ACTIVE),
        ("sleeping", "started", Status.DEPLOYMENT_STATUS_ACTIVE),
        ("starting", "started", Status.DEPLOYMENT_STATUS_ACTIVE),
        ("stopping", "started", Status.DEPLOYMENT_STATUS_ACTIVE),
        ("stopping", "stopped", Status.DEPLOYMENT_STATUS_SCALING_DOWN),
        ("stopped", "stopped", Status.DEPLOYMENT_STATUS_STOPPED),
        ("failed", "started", Status.DEPLOYMENT_STATUS_FAILED),
        ("deploying", "started", Status.DEPLOYMENT_STATUS_DEPLOYING),
        ("of tomorrow", "started", Status.DEPLOYMENT_STATUS_PENDING),
    ],
)
def test_each_state_has_its_word_in_flyte(gateway: Running, state: str, wanted: str, status: int) -> None:
    """Asleep is active: only a stop is a stop."""
    gateway.flyted.answers("app.get", {"result": {"app": app_status(state=state, wanted=wanted), "spec": {}}})
    assert last(get(gateway)).deployment_status == status


def test_what_an_app_does_without_is_said_with_its_state(gateway: Running) -> None:
    """`flyte get app NAME` and the companion's last line show the message of the last condition."""
    said = ["replicas=(0, 5): flyted runs at most one replica"]
    gateway.flyted.answers("app.get", {"result": {"app": app_status(unmet=said), "spec": {}}})
    found = ask(apps(gateway).get, pb.GetRequest(app_id=app().metadata.id)).app
    assert last(found).message == f"Service is ready; note: {said[0]}"


def test_a_wanted_state_alone_changes_no_revision(gateway: Running) -> None:
    """What `flyte update app` does: the whole app comes back with another wanted state."""
    gateway.flyted.answers("app.serve", {"result": {"app": app_status(), "changed": False}})
    create(gateway, app())
    kept = gateway.flyted.calls[-1][1]["spec"]
    digest = from_dict(kept).digest()
    gateway.flyted.answers("app.get", {"result": {"app": app_status(spec_digest=digest), "spec": kept}})
    gateway.flyted.answers("app.stop", {"result": app_status(state="stopped", wanted="stopped")})
    gateway.flyted.answers("app.start", {"result": app_status()})
    shown = get(gateway)
    shown.spec.desired_state = definition.Spec.DESIRED_STATE_STOPPED
    ask(apps(gateway).update, pb.UpdateRequest(app=shown, reason="stop"))
    shown.spec.desired_state = definition.Spec.DESIRED_STATE_STARTED
    ask(apps(gateway).update, pb.UpdateRequest(app=shown, reason="start"))
    assert [v for v in gateway.flyted.verbs() if v != "app.get"] == ["app.serve", "app.stop", "app.start"]


def test_get_gives_back_what_was_given(gateway: Running) -> None:
    """The SDK compares the two, with the ingress present even when it is empty."""
    gateway.flyted.answers("app.serve", {"result": {"app": app_status(), "changed": False}})
    made = app(bundle(gateway))
    create(gateway, made)
    digest = from_dict(gateway.flyted.calls[-1][1]["spec"]).digest()
    gateway.flyted.answers("app.get", {"result": {"app": app_status(spec_digest=digest), "spec": {}}})
    shown = get(gateway)
    assert shown.spec.HasField("ingress")
    assert shown.spec.container == made.spec.container
    assert shown.spec.creator.user.id.subject == "alice"


def test_an_app_of_flytectl_is_shown_as_well(gateway: Running) -> None:
    """Described from what flyted knows; sent back unchanged, it is understood to be the same."""
    spec = {
        "key": {"project": "p1", "domain": "development", "name": "hello"}, "command": ["fserve", "--"],
        "image": {"spec": {"baseImage": "b"}, "files": {}}, "memory_bytes": 1 << 29, "env": [["A", "b"]],
        "secrets": [{"key": "K", "env": "K", "file": ""}], "scaledown_after_s": 300.0,
    }  # fmt: skip
    gateway.flyted.answers("app.get", {"result": {"app": app_status(spec_digest="0" * 64), "spec": spec}})
    gateway.flyted.answers("app.start", {"result": app_status()})
    shown = get(gateway)
    assert shown.spec.container.env[0].value == "b"
    assert shown.spec.security_context.secrets[0].env_var == "K"
    ask(apps(gateway).update, pb.UpdateRequest(app=shown))
    assert "app.start" in gateway.flyted.verbs()


def test_the_description_that_serves_outlives_refused_ones(tmp_path: Path) -> None:
    """A file that was mended in many attempts, of which none served, leaves the description of what serves."""
    specs = Specs(tmp_path / "specs")
    specs.keep(KEY, "serves", b"app")
    for attempt in range(specs_module.KEPT * 2):
        if attempt % 4 == 0:
            assert specs.find(KEY, "serves") == b"app"
        time.sleep(0.02)  # two files of the same moment have no order
        specs.keep(KEY, f"attempt{attempt}", b"other")
    assert specs.find(KEY, "serves") == b"app"
    assert specs.find(KEY, "attempt0") is None


@pytest.mark.parametrize("changed", [True, False])
def test_an_app_with_a_model_of_this_machine_keeps_its_description(gateway: Running, changed: bool) -> None:
    """flyted adds the model's folder to what it stores, so its digest is another than that of what was sent."""
    stored: list[AppSpec] = []

    def serve(args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        stored[:] = [dataclasses.replace(from_dict(args["spec"]), models=(("qwen", "/srv/qwen"),))]
        found = {"app": app_status(spec_digest=stored[0].digest()), "spec": to_dict(stored[0])}
        gateway.flyted.answers("app.get", {"result": found})
        if changed:
            yield {**accepted(args), "event": {**accepted(args)["event"], "spec_digest": stored[0].digest()}}
        yield {"result": {"app": found["app"], "changed": changed}}

    gateway.flyted.scripts["app.serve"] = serve
    made = app(bundle(gateway))
    create(gateway, made)
    again = get(gateway)
    assert again.spec.container == made.spec.container
    again.spec.container.env.add(key="MODE", value="fast")
    ask(apps(gateway).update, pb.UpdateRequest(app=again))
    assert stored[0].env == (("MODE", "fast"),)
    assert stored[0].bundle


def of_flytectl(gateway: Running) -> AppSpec:
    """An app that flytectl served, with most of what an app can have."""
    spec = AppSpec(
        KEY, ("fserve", "--resolver", "r", "--resolver-args", "m:env", "--"),
        {"spec": {"baseImage": BASE, "layers": [{"pipPackages": {"packages": ["torch"]}}]}, "files": {}},
        bundle="b" * 64, sys_path="src:lib", gpu_count=2, gpu_name="A100 80GB", container_port=9000, h2c=True,
        server_port=9000, disk_bytes=1 << 30, shm_bytes=1 << 26, egress=False,
    )  # fmt: skip
    found = {"app": app_status(spec_digest=spec.digest()), "spec": to_dict(spec)}
    gateway.flyted.answers("app.get", {"result": found})
    gateway.flyted.answers("app.start", {"result": app_status()})
    gateway.flyted.answers("app.serve", {"result": {"app": app_status(), "changed": True}})
    return spec


def test_an_app_of_flytectl_is_not_deployed_without_half_of_it(gateway: Running) -> None:
    """Get, one field changed, Update (App.replace): no deploy without bundle, layers and options, but what to type."""
    of_flytectl(gateway)
    changed = get(gateway)
    changed.spec.container.env.add(key="MODE", value="fast")
    for call, request in ((apps(gateway).update, pb.UpdateRequest), (apps(gateway).create, pb.CreateRequest)):
        with pytest.raises(ConnectError, match="flytectl serve FILE") as raised:
            ask(call, request(app=changed))
        assert raised.value.code is Code.FAILED_PRECONDITION
    assert set(gateway.flyted.verbs()) == {"app.get"}


def test_an_app_of_flytectl_is_replaced_by_a_whole_file(gateway: Running) -> None:
    """`flyte deploy` sends all that the app needs, and no revision; it may change how an app is served."""
    of_flytectl(gateway)
    create(gateway, app(bundle(gateway)))
    assert gateway.flyted.verbs()[-1] == "app.serve"


def test_an_app_of_flytectl_is_shown_with_its_gpus_and_ports(gateway: Running) -> None:
    """As a file would say it: read back, these are the fields of the app's own description."""
    known = of_flytectl(gateway)
    read = spec_of(json_format.MessageToDict(get(gateway)))
    for name in (
        "gpu_count",
        "gpu_name",
        "sys_path",
        "container_port",
        "server_port",
        "h2c",
        "disk_bytes",
        "shm_bytes",
    ):
        assert getattr(read, name) == getattr(known, name), name


REFUSED: list[tuple[definition.App, str]] = [
    (app(image="docker.io/library/nginx"), "image.builder: remote"),
    (app(image="localhost:30000/flyte:abc"), "image.builder: remote"),
    (app(image="flyted.localhost/flyte:abc"), "serve the app again"),
    (app(pod=tasks_pb2.K8sPod()), "pod_template"),
    (app(cluster="c1"), "cluster"),
    (app(ingress=definition.IngressConfig(cname="a.example.com")), "custom_domain"),
    (app(autoscaling=definition.AutoscalingConfig(replicas=definition.Replicas(min=2, max=3))), "replicas"),
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


def test_code_that_asks_for_another_apps_address_is_refused(gateway: Running) -> None:
    """The app would be served, and fail at its first request."""
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
    with pytest.raises(ConnectError, match=r"back\.endpoint.*apps cannot reach each other") as raised:
        create(gateway, app(bundle(gateway, buffer.getvalue())))
    assert raised.value.code is Code.FAILED_PRECONDITION
    assert gateway.flyted.verbs() == []


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


def test_a_deleted_app_is_gone_before_its_deploy_has_heard_of_it(gateway: Running) -> None:
    """Flyted has called the deploy off; that it "failed" is not kept for the next one who asks."""
    held = Held(gateway)
    held.end = DeployFailed("the deploy of app 'hello' was cancelled")
    gateway.flyted.answers("app.get", NO_APP)
    gateway.flyted.answers("app.delete", {"result": app_status()})
    create(gateway, app())
    ask(apps(gateway).delete, pb.DeleteRequest(app_id=app().metadata.id))
    for may_end in (False, True):
        if may_end:
            held.may_end.set()
            while gateway.parts.jobs.busy:
                pass
        with pytest.raises(ConnectError) as raised:
            get(gateway)
        assert raised.value.code is Code.NOT_FOUND
        assert gateway.parts.jobs.deploy_of(KEY) is None


def test_a_client_that_leaves_ends_the_deletion_that_it_waits_for(gateway: Running) -> None:
    """Else it would strike later, when the app's last requests have ended and somebody serves it again."""
    begun, ended = threading.Event(), threading.Event()

    def script(args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        begun.set()
        try:
            while True:
                time.sleep(0.05)
                yield {"event": {"kind": "progress", "text": ""}}
        finally:
            ended.set()

    gateway.flyted.scripts["app.delete"] = script

    async def leave() -> None:
        deletion = apps(gateway).delete(pb.DeleteRequest(app_id=app().metadata.id), headers=HEADERS)
        waiting = asyncio.create_task(deletion)
        assert await asyncio.to_thread(begun.wait, 10)
        assert not ended.is_set()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(leave())
    assert ended.wait(10)


def test_the_data_of_a_deleted_app_is_kept(gateway: Running) -> None:
    """Flyte's command does not ask."""
    gateway.flyted.answers("app.delete", {"result": app_status()})
    ask(apps(gateway).delete, pb.DeleteRequest(app_id=app().metadata.id))
    assert [args["keep_data"] for verb, args, _ in gateway.flyted.calls if verb == "app.delete"] == [True]


def test_an_unknown_app_is_not_found(gateway: Running) -> None:
    """For get, update and delete."""
    for verb in ("app.get", "app.delete"):
        gateway.flyted.answers(verb, NO_APP)
    for call, request in (
        (apps(gateway).get, pb.GetRequest(app_id=app().metadata.id)),
        (apps(gateway).update, pb.UpdateRequest(app=app())),
        (apps(gateway).delete, pb.DeleteRequest(app_id=app().metadata.id)),
    ):
        with pytest.raises(ConnectError) as raised:
            ask(call, request)
        assert raised.value.code is Code.NOT_FOUND


def test_a_list_is_filtered_sorted_and_paged(gateway: Running) -> None:
    """As `flyte get app --status` and `listall` ask for it."""
    many = [app_status(f"a{n}", created_at=1.7e9 + n, state="running" if n % 2 else "stopped") for n in range(6)]
    gateway.flyted.answers("app.list", {"result": {"apps": many}})
    wanted = list_pb2.Filter(function=list_pb2.Filter.EQUAL, field="status_phase", values=["DEPLOYMENT_STATUS_ACTIVE"])
    order = list_pb2.Sort(key="created_at", direction=list_pb2.Sort.ASCENDING)
    asked = list_pb2.ListRequest(limit=2, sort_by=order, filters=[wanted])
    answer = ask(apps(gateway).list, pb.ListRequest(request=asked))
    assert [found.metadata.id.name for found in answer.apps] == ["a1", "a3"]
    asked.token = answer.token
    answer = ask(apps(gateway).list, pb.ListRequest(request=asked))
    assert ([found.metadata.id.name for found in answer.apps], answer.token) == (["a5"], "")


def test_a_filter_that_we_do_not_have_is_named(gateway: Running) -> None:
    """Never ignored."""
    gateway.flyted.answers("app.list", {"result": {"apps": [app_status()]}})
    wanted = list_pb2.Filter(function=list_pb2.Filter.EQUAL, field="colour", values=["red"])
    with pytest.raises(ConnectError, match="colour"):
        ask(apps(gateway).list, pb.ListRequest(request=list_pb2.ListRequest(filters=[wanted])))


def test_what_flyted_finds_wrong_is_the_rpcs_error(gateway: Running) -> None:
    """Before it accepts: the client hears it from Create and not from a watch."""
    gateway.flyted.answers("app.serve", InvalidInput("the secrets are too large", hint="store less"))
    with pytest.raises(ConnectError) as raised:
        create(gateway, app())
    assert (raised.value.code, raised.value.message) == (
        Code.INVALID_ARGUMENT, "the secrets are too large (hint: store less)",
    )  # fmt: skip
    assert gateway.parts.jobs.deploy_of(KEY) is None
