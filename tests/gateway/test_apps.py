"""AppService: what becomes of a description, and which state the SDK is told."""

from __future__ import annotations

import dataclasses
import gzip
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flyteidl2.app import app_definition_pb2 as definition
from flyteidl2.app import app_payload_pb2 as pb

from flyted.contract.app import AppSpec, from_dict, to_dict
from flyted.contract.errors import Busy, DeployFailed, FlytedError
from flyted.gateway.idl import specs as specs_module
from flyted.gateway.idl.specs import Specs
from tests.answers import app_status
from tests.gateway.app_service import KEY, Held, accepted, apps, create, get, last, watch
from tests.gateway.clients import ask
from tests.gateway.described import CODE, app, bundle
from tests.gateway.harness import NO_APP, Running

pytestmark = pytest.mark.slow

Status = definition.Status


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


def test_a_pickled_app_reaches_flyted_as_it_is(gateway: Running) -> None:
    """``interactive_mode``, or a notebook. Nothing but the app's own unit unpickles it."""
    code = gzip.compress(b"cos\nsystem\n(S'touch /tmp/pickled'\ntR.")
    place = bundle(gateway, code)
    held = Held(gateway)
    made = app(place)
    words = list(made.spec.container.command)
    at = words.index("--tgz")
    made.spec.container.command[:] = [
        *words[:at],
        "--pkl",
        place.url,
        *words[at + 2 : words.index("--resolver")],
        "--",
    ]
    create(gateway, made)
    held.may_end.set()
    spec = next(args for verb, args, _ in gateway.flyted.calls if verb == "app.serve")["spec"]
    assert held.file == code
    assert spec["command"] == ["fserve", "--pkl", "bundle", "--"]
    assert not Path("/tmp/pickled").exists()


def test_an_image_of_a_registry_is_flyteds_to_pull(gateway: Running) -> None:
    """The SDK has no build of it, and its program may be the image's own."""
    held = Held(gateway)
    made = app(image="nginx:1.27")
    made.spec.container.ClearField("command")
    create(gateway, made)
    held.may_end.set()
    spec = next(args for verb, args, _ in gateway.flyted.calls if verb == "app.serve")["spec"]
    assert spec["image"]["spec"] == {"baseImage": "nginx:1.27"}
    assert spec["entrypoint"] is True


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
        "revision 2 of app 'hello' did not start: it ran out of memory", hint="flytectl logs hello"
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
    said = ["replicas=(0, 99): flyted runs at most 64 replicas of an app"]
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
