"""Image builds as the SDK's remote builder asks for them: upload, run, watch, result."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import shutil
import tarfile
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.common import identifier_pb2, phase_pb2
from flyteidl2.core import literals_pb2
from flyteidl2.dataproxy import dataproxy_service_pb2 as data
from flyteidl2.imagebuilder import definition_pb2 as definition
from flyteidl2.imagebuilder import payload_pb2 as image
from flyteidl2.task import common_pb2
from flyteidl2.task import task_definition_pb2 as task_definition
from flyteidl2.workflow import run_service_pb2 as runs

from flyted.contract.answers.apps import ImageStatus
from flyted.contract.answers.images import ImageEntry
from flyted.contract.errors import BuildFailed, FlytedError, HostFailure, NotFound, Unsupported
from flyted.gateway.files.blobs import BlobKey
from flyted.gateway.files.recipes import name_of
from flyted.gateway.files.whole import stored
from tests.answers import app_status, whole
from tests.gateway.clients import ask, first, service
from tests.gateway.described import BASE, app
from tests.gateway.harness import Running

pytestmark = pytest.mark.slow

NAME = "flyte:0123456789abcdef"
WHERE = identifier_pb2.ProjectIdentifier(organization="o", name="p1", domain="development")
HASH = "ab" * 16
BUILT = {"result": whole(ImageStatus, hash=HASH)}
URI = f"flyted.localhost/{NAME}@flyted:{HASH}"


def keep(gateway: Running, filename: str, content: bytes) -> str:
    """An upload; its address."""
    place = BlobKey("p1", "development", hashlib.md5(content).hexdigest(), filename)
    (gateway.state / "blobs" / f"{place.stem}.{hashlib.sha256(content).hexdigest()}").write_bytes(content)
    return place.url


def spec(*layers: definition.Layer) -> bytes:
    made = definition.ImageSpec(base_image=BASE, python_version="3.12", layers=layers)
    data: bytes = made.SerializeToString()
    return data


PIP = definition.Layer(pip_packages=definition.PipPackages(packages=["fastapi"]))
FILE = definition.Layer(requirements=definition.Requirements(file="_flyte_abs_context/tmp/req.txt"))


def archive(members: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def run_service(gateway: Running) -> Any:
    return service(gateway, "workflow.run_service_connect", "RunService")


def proxy(gateway: Running) -> Any:
    return service(gateway, "dataproxy.dataproxy_service_connect", "DataProxyService")


def create(gateway: Running, **inputs: str) -> Any:
    """The run that the SDK would start with these inputs, uploaded as it does."""
    request = create_request(**inputs)
    uploaded = ask(proxy(gateway).upload_inputs, data.UploadInputsRequest(inputs=request.inputs))
    request.offloaded_input_data.CopyFrom(uploaded.offloaded_input_data)
    return ask(run_service(gateway).create_run, request).run.action


def create_request(**inputs: str) -> runs.CreateRunRequest:
    """The request for a run, with its inputs in it."""
    literals = [
        common_pb2.NamedLiteral(
            name=name,
            value=literals_pb2.Literal(
                scalar=literals_pb2.Scalar(primitive=literals_pb2.Primitive(string_value=value))
            ),
        )
        for name, value in inputs.items()
    ]
    return runs.CreateRunRequest(
        project_id=WHERE, task_id=task_definition.TaskIdentifier(name="build-image"),
        inputs=common_pb2.Inputs(literals=literals),
    )  # fmt: skip


def building(gateway: Running, end: dict[str, Any] | FlytedError = BUILT) -> threading.Event:
    """flyted accepts a recipe, says a line, and ends when the event is set."""
    may_end = threading.Event()

    def script(args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        yield {"event": {"kind": "accepted", "text": "checked"}}
        yield {"event": {"kind": "build", "text": "layer 1: Resolved 7 packages"}}
        assert may_end.wait(30)
        yield {"error": end.to_wire()} if isinstance(end, FlytedError) else end

    gateway.flyted.scripts["image.build"] = script
    return may_end


def there(gateway: Running, images: Mapping[str, str] = {HASH: ""}) -> None:
    """flyted has these images, by their hashes; each says what it was rebuilt as."""

    def script(args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        if args["hash"] not in images:
            yield {"error": NotFound(f"there is no image {args['hash']}").to_wire()}
        else:
            yield {"result": whole(ImageEntry, hash=args["hash"], rebuilt_as=images[args["hash"]])}

    gateway.flyted.scripts["image.get"] = script


def found(gateway: Running, name: str = NAME) -> Any:
    images = service(gateway, "imagebuilder.service_connect", "ImageService")
    request = image.GetImageRequest(id=definition.ImageIdentifier(name=name), organization="o", project_id=WHERE)
    return ask(images.get_image, request)


def test_a_build_from_its_upload_to_its_use(gateway: Running) -> None:
    """Unknown first; then a run that is watched to its end; then known, and an app can be made of it."""
    with pytest.raises(ConnectError) as raised:
        found(gateway)
    assert raised.value.code is Code.NOT_FOUND
    may_end = building(gateway)
    action = create(gateway, spec=keep(gateway, "spec.pb", spec(PIP)), context="", target_image=NAME)
    assert action.status.phase == phase_pb2.ACTION_PHASE_RUNNING
    threading.Timer(0.3, may_end.set).start()
    seen = watched(gateway, action)
    assert [each.details.status.phase for each in seen] == [
        phase_pb2.ACTION_PHASE_RUNNING, phase_pb2.ACTION_PHASE_SUCCEEDED,
    ]  # fmt: skip
    result = ask(proxy(gateway).get_action_data, data.GetActionDataRequest(action_id=action.id))
    uri = result.outputs.literals[0].value.scalar.primitive.string_value
    there(gateway)
    assert uri == found(gateway).image.fqin == URI
    gateway.flyted.answers("app.serve", {"result": {"app": app_status(), "changed": False}})
    from flyteidl2.app import app_payload_pb2

    apps = service(gateway, "app.app_service_connect", "AppService")
    ask(apps.create, app_payload_pb2.CreateRequest(app=app(image=uri)))
    layers = gateway.flyted.calls[-1][1]["spec"]["image"]["spec"]["layers"]
    assert layers == [{"pipPackages": {"packages": ["fastapi"]}}]


def test_the_text_of_a_requirements_file_goes_along(gateway: Running) -> None:
    """Out of the context, by the name that the layer has."""
    building(gateway).set()
    files = {"other.txt": b"x", "_flyte_abs_context/tmp/req.txt": b"fastapi==1.0\n"}
    create(
        gateway, spec=keep(gateway, "spec.pb", spec(FILE)), target_image=NAME,
        context=keep(gateway, "context.tar.gz", archive(files)),
    )  # fmt: skip
    sent = next(args for verb, args, _ in gateway.flyted.calls if verb == "image.build")["image"]
    assert sent["files"] == {"_flyte_abs_context/tmp/req.txt": "fastapi==1.0\n"}


def test_the_registry_that_flyte_2_10_makes_up_is_none(gateway: Running) -> None:
    """It is found under the name that the SDK asks for afterwards."""
    building(gateway).set()
    action = create(
        gateway, spec=keep(gateway, "spec.pb", spec(PIP)), context="", target_image=f"localhost:30000/{NAME}"
    )
    seen = watched(gateway, action)
    assert seen[-1].details.status.phase == phase_pb2.ACTION_PHASE_SUCCEEDED
    there(gateway)
    assert found(gateway).image.fqin == URI


def test_an_image_is_known_by_what_is_on_the_disk(gateway: Running) -> None:
    """By the digest of what it was rebuilt as; and not at all when its files are gone: the SDK has it built again."""
    building(gateway).set()
    watched(gateway, create(gateway, spec=keep(gateway, "spec.pb", spec(PIP)), context="", target_image=NAME))
    there(gateway, {HASH: "cd" * 16, "cd" * 16: ""})
    assert found(gateway).image.fqin == f"flyted.localhost/{NAME}@flyted:{'cd' * 16}"
    for left in ({}, {HASH: "cd" * 16}):
        there(gateway, left)
        with pytest.raises(ConnectError) as raised:
            found(gateway)
        assert raised.value.code is Code.NOT_FOUND


@pytest.mark.parametrize("uri", [URI, f"flyted.localhost/{NAME}"])
def test_an_address_names_an_image_with_a_digest_or_without(uri: str) -> None:
    """A page or a file of before may have one without."""
    assert name_of(uri) == NAME


@pytest.mark.parametrize("uri", [f"{URI}0", f"flyted.localhost/{NAME}@sha256:{HASH}", f"ghcr.io/{NAME}@flyted:{HASH}"])
def test_no_other_address_does(uri: str) -> None:
    """It is one of a registry then, or none."""
    assert name_of(uri) is None


def test_a_failed_build_says_in_which_layer(gateway: Running) -> None:
    """To who waits for it, in the error that ends the stream: a state "failed" the SDK shows without its reason.

    And in the run's details, with the builder's last lines. The name stays unknown.
    """
    building(gateway, BuildFailed("layer 1 of the image (pip packages): no solution found")).set()
    action = create(gateway, spec=keep(gateway, "spec.pb", spec(PIP)), context="", target_image=NAME)
    for _ in range(2):  # while it runs or just after, and later
        with pytest.raises(ConnectError) as raised:
            watched(gateway, action)
        assert raised.value.code is Code.FAILED_PRECONDITION
        assert raised.value.message == (
            f"image {NAME}: layer 1 of the image (pip packages): no solution found\n"
            f"all of its output: flyte get logs {action.id.run.name}"
        )
    details = ask(run_service(gateway).get_run_details, runs.GetRunDetailsRequest(run_id=action.id.run)).details
    assert "layer 1 of the image" in details.action.error_info.message
    assert "Resolved 7 packages" in details.action.error_info.message
    with pytest.raises(ConnectError):
        found(gateway)


def watched(gateway: Running, action: Any) -> list[Any]:
    """The states of a build to its end."""
    return first(run_service(gateway).watch_action_details, runs.WatchActionDetailsRequest(action_id=action.id), 2)


def details_of(gateway: Running, action: Any) -> Any:
    """What is known of a build once it has ended, however."""
    with contextlib.suppress(ConnectError):
        watched(gateway, action)
    return ask(run_service(gateway).get_run_details, runs.GetRunDetailsRequest(run_id=action.id.run)).details.action


def test_a_finished_build_whose_name_cannot_be_kept_says_why(gateway: Running) -> None:
    """A full disk is told as one, not as a restart of the gateway, which the next attempt would meet, too."""
    may_end = building(gateway)
    action = create(gateway, spec=keep(gateway, "spec.pb", spec(PIP)), context="", target_image=NAME)
    shutil.rmtree(gateway.state / "recipes")
    threading.Timer(0.3, may_end.set).start()
    details = details_of(gateway, action)
    assert details.status.phase == phase_pb2.ACTION_PHASE_FAILED
    assert "cannot store what the image is made of: No such file or directory" in details.error_info.message
    assert "df -h" in details.error_info.message


def test_a_fault_of_ours_in_a_build_is_told_as_one(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as a restart, nor by leaving the client to wait, whenever it happens."""

    async def broken(*_: object, **__: object) -> None:
        raise KeyError("x")

    given = {"spec": keep(gateway, "spec.pb", spec(PIP)), "context": "", "target_image": NAME}
    call = gateway.parts.daemon.call
    monkeypatch.setattr(
        gateway.parts.daemon,
        "call",
        lambda kind, verb, *a, **k: (broken if verb == "image.build" else call)(kind, verb, *a, **k),
    )
    with pytest.raises(ConnectError, match="internal error"):
        create(gateway, **given)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_called_so(code: int) -> None:
    """Whose quota it is makes no difference to what helps."""
    with pytest.raises(HostFailure, match="cannot store it: the disk is full") as raised, stored("it"):
        raise OSError(code, "No space left on device")
    assert "df -h" in raised.value.hint


def test_a_recipe_that_cannot_be_is_refused_at_once(gateway: Running) -> None:
    """Nothing to wait for: the error is the run's own."""
    gateway.flyted.answers("image.build", Unsupported("layer 1 of the image: apt packages", hint="install them"))
    with pytest.raises(ConnectError) as raised:
        create(gateway, spec=keep(gateway, "spec.pb", spec(PIP)), context="", target_image=NAME)
    assert (raised.value.code, "apt packages" in raised.value.message) == (Code.FAILED_PRECONDITION, True)


def test_a_run_of_a_gateway_that_was_restarted_has_failed(gateway: Running) -> None:
    """Nobody waits for ever: the client serves again, and what was built is found."""
    may_end = building(gateway)
    action = create(gateway, spec=keep(gateway, "spec.pb", spec(PIP)), context="", target_image=NAME)
    gateway.parts.jobs._runs.clear()  # as a new process
    details = ask(run_service(gateway).get_run_details, runs.GetRunDetailsRequest(run_id=action.id.run)).details
    assert details.action.status.phase == phase_pb2.ACTION_PHASE_FAILED
    assert "restarted" in details.action.error_info.message
    may_end.set()


@pytest.mark.parametrize("name", ["", "a", "a:b:c", "reg.example/flyte:1", "../x:1", "a b:c", "x" * 300 + ":1"])
def test_an_image_name_that_is_none_is_refused(gateway: Running, name: str) -> None:
    """Also one with a registry: there is none."""
    for call in (
        lambda: found(gateway, name),
        lambda: create(gateway, spec=keep(gateway, "spec.pb", spec(PIP)), context="", target_image=name),
    ):
        with pytest.raises(ConnectError) as raised:
            call()
        assert raised.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "url", ["", "/etc/shadow", "file:///etc/shadow", "flyted://p2/development/" + "0" * 32 + "/spec.pb"]
)
def test_a_spec_from_elsewhere_is_not_read(gateway: Running, url: str) -> None:
    """Only uploads to the run's own project."""
    with pytest.raises(ConnectError) as raised:
        create(gateway, spec=url, context="", target_image=NAME)
    assert raised.value.code is Code.INVALID_ARGUMENT
