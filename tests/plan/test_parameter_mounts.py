"""What shows the files and folders among an app's parameters where its file says."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput
from flyted.contract.names import Replica
from flyted.plan import parameter_mounts
from flyted.plan.facts import RootFact
from flyted.plan.units import app_units
from tests.values import parameters_of, spec

REPLICA = Replica("hello", 1)


def app(*items: dict[str, Any], **fields: Any) -> AppSpec:
    rows = [{"name": f"p{number}", "value": "s3://b/x", "download": True, **each} for number, each in enumerate(items)]
    return spec(command=("fserve", "--parameters", parameters_of(*rows), "--", "serve"), **fields)


def file(mount: str, **more: str) -> dict[str, Any]:
    return {"type": "file", "dest": mount, **more}


def folder(mount: str) -> dict[str, Any]:
    return {"type": "directory", "dest": mount}


@pytest.mark.parametrize(
    ("items", "folders"),
    [
        ([], ()),
        ([file("/app/models/")], ("/app/models",)),
        ([file("/app/models")], ("/app",)),
        ([folder("/app/data")], ("/app/data",)),
        ([folder("/data/")], ("/data",)),
        ([folder("/app/data"), file("/app/m.bin"), file("/app2/x/")], ("/app", "/app2/x")),
        ([folder("/app//data/../other")], ("/app/other",)),
        ([file("/tmp/x"), file("/tmp/"), folder("/var/tmp/d"), folder("/dev/shm/d")], ()),
        ([folder("/tmp/../app")], ("/app",)),
        ([folder("/tmpfiles")], ("/tmpfiles",)),
        ([file("models/"), {"type": "file"}, {"type": "string", "dest": "/app"}], ()),
    ],
)
def test_the_folders_that_parameters_need(items: list[dict[str, Any]], folders: tuple[str, ...]) -> None:
    """None below another; none that the app can write to anyway; a relative one is in the app's working folder."""
    assert parameter_mounts.folders(app(*items)) == folders


@pytest.mark.parametrize("rooted", [False, True])
@pytest.mark.parametrize("mount", ["/", "/etc/", "/usr/lib/flyted/x/", "/proc/x/", "/m.bin", "/a b/", "/x/\x1b/"])
def test_a_folder_of_the_machine_is_refused(mount: str, rooted: bool) -> None:
    """At the deploy, not by a unit that does not start."""
    with pytest.raises(InvalidInput, match="cannot be shown in"):
        parameter_mounts.check(app(file(mount)), rooted=rooted)


@pytest.mark.parametrize("mount", ["/opt/x/", "/srv/x/", "/etc/x/"])
def test_an_images_own_root_has_more_places(mount: str) -> None:
    """Of the machine's root an app sees these folders as they are, and nothing may be added to them."""
    parameter_mounts.check(app(file(mount)), rooted=True)
    with pytest.raises(InvalidInput):
        parameter_mounts.check(app(file(mount)), rooted=False)


@pytest.mark.parametrize("mount", ["/app/models/", "/root/models/", "/mnt/x/", "/data/", "/workspace/m.bin"])
def test_usual_places_are_fine(mount: str) -> None:
    for rooted in (False, True):
        parameter_mounts.check(app(file(mount)), rooted=rooted)


def service(app: AppSpec, root: RootFact | None = None) -> dict[str, Any]:
    return app_units(app, REPLICA, image_path="/i", root=root).service


def test_a_unit_without_mounts_is_as_it_was() -> None:
    """Its definition decides whether a sleeping app's units are made anew."""
    assert "RootDirectory" not in service(app(file("/tmp/x")))
    assert service(app(file("/tmp/x")))["TemporaryFileSystem"] == service(spec())["TemporaryFileSystem"]


def test_the_machines_root_gets_no_mount_points() -> None:
    """A root in memory, with the machine's folders, and a writable folder for links."""
    model = {"type": "directory", "value": "/models/llm", "dest": "/app/models/llm"}
    pair = app_units(app(file("/app/models/"), model), REPLICA, image_path="/i")
    (name,) = pair.mounts
    assert pair.mounts[name]["Type"] == "tmpfs"
    for unit in (pair.service, pair.socket):
        assert (unit["Requires"], unit["After"]) == ([name], [name])
    assert pair.service["RootDirectory"].endswith("/hello_r1_0/root")
    assert pair.service["TemporaryFileSystem"][-1] == ("/app/models", "mode=1777,size=64m")
    shown = {path: optional for path, _, optional, _ in pair.service["BindReadOnlyPaths"]}
    assert {"/usr", "/etc", "/lib64", "/models"} <= shown.keys()
    assert shown["/usr"] is shown["/models"] is True
    assert (pair.service["MountAPIVFS"], pair.service["ProtectHome"]) == (True, "tmpfs")


def test_an_environment_elsewhere_is_seen() -> None:
    """--python-env and models of the machine may be in a folder of its root that has another name; homes are not."""
    fields = {"python_env": "/envs/a", "models": (("m", "/llm/m"), ("n", "/home/x")), "image": {}}
    shown = [path for path, *_ in service(app(file("/app/x/"), **fields))["BindReadOnlyPaths"]]
    assert {"/envs", "/llm"} <= set(shown)
    assert "/home" not in shown


def test_in_an_images_root_they_are_volumes() -> None:
    """Filled with what the image has there, as its own VOLUMEs are."""
    root = RootFact(("a" * 32,), python="/usr/bin/python3", volumes=("/v",))
    made = app_units(app(file("/app/models/")), REPLICA, image_path="", root=root)
    written = [path for path, _ in made.service["TemporaryFileSystem"]]
    assert {"/v", "/app/models"} <= set(written)
    assert b'"--volume", "/app/models"' in made.start or b'"--volume","/app/models"' in made.start
