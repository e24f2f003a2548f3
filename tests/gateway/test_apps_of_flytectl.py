"""AppService and apps that flytectl served: shown as a file would say it, and not deployed without half of it."""

from __future__ import annotations

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.app import app_payload_pb2 as pb
from google.protobuf import json_format

from flyted.contract.app import AppSpec, to_dict
from flyted.contract.idl import spec_of
from tests.answers import app_status
from tests.gateway.app_service import KEY, apps, create, get
from tests.gateway.clients import ask
from tests.gateway.described import BASE, app, bundle
from tests.gateway.harness import Running

pytestmark = pytest.mark.slow


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
