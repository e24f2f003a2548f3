"""The units of an app whose image has its own root file system: only what has to differs from an environment's."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from flyted.contract.app import SecretUse
from flyted.contract.names import Replica, state_name
from flyted.host.signatures import auxiliary, properties
from flyted.launch.options import Options, parse
from flyted.launch.words import HOST, IMAGE
from flyted.plan.facts import ImageFact, Platform, RootFact
from flyted.plan.images import root_mount
from flyted.plan.units import UnitPair, app_units, bundle_path
from tests.values import spec

BUNDLE = "a" * 64
ROOT = RootFact(("a" * 32, "b" * 32), python="/opt/venv/bin/python", workdir="/app", volumes=("/data", "/var/lib/x"))
REPLICA = Replica("web", 1)
PORT: dict[str, Any] = {"command": ("nginx",), "port": 80}
LOADER = f"{HOST}/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"


def units(root: RootFact | None = ROOT, **changes: Any) -> UnitPair:
    """The units of an app of this image, or of one with an environment."""
    return app_units(spec("web", **changes), REPLICA, image_path="/usr", root=root)


def argv(pair: UnitPair) -> list[str]:
    ((_path, words, _flags),) = pair.service["ExecStartEx"]
    return list(words)


def told(pair: UnitPair) -> Options:
    words = argv(pair)
    document = json.loads(pair.start)
    return parse([*words[words.index("--app") : words.index("--start")], *document["words"]])


def test_a_server_function_runs_on_the_images_python() -> None:
    """It imports what the image has; so does a program that takes the inherited socket."""
    assert argv(units())[:3] == ["/opt/venv/bin/python", "-I", "/usr/lib/flyted/flyted/launch"]
    assert argv(units(command=("uvicorn", "main:app")))[0] == "/opt/venv/bin/python"
    ((_path, stop, _flags),) = units(server_port=8080).service["ExecStopEx"]
    assert stop[0] == "/opt/venv/bin/python"


@pytest.mark.parametrize(
    ("root", "changes"),
    [(ROOT, PORT), (dataclasses.replace(ROOT, python=""), {"command": ("fserve", "--", "httpd"), "port": 8080})],
)
def test_a_program_needs_no_python_of_the_image(root: RootFact, changes: dict[str, Any]) -> None:
    """The machine's runs launch, by its own ld.so and libraries: the image may have none, or musl's."""
    words = argv(units(root, **changes))
    assert words[:2] == [LOADER, "--library-path"]
    python = f"{HOST}/bin/python3"
    assert words[3:9] == ["--argv0", python, python, "-I", "-S", "/usr/lib/flyted/flyted/launch"]
    arm = app_units(
        spec("web", **changes), REPLICA, image_path="", root=root, platform=Platform("aarch64")
    )  # fmt: skip
    assert argv(arm)[0] == f"{HOST}/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1"


def test_its_root_is_the_mount_that_both_units_require() -> None:
    """So PID 1 mounts it before either starts, and unmounts it when neither is left."""
    pair = units(**PORT)
    unit = root_mount.unit(REPLICA)
    assert pair.service["RootDirectory"] == root_mount.path(REPLICA)
    assert list(pair.mounts) == [unit]
    for each in (pair.socket, pair.service):
        assert (each["Requires"], each["After"]) == ([unit], [unit])
    assert not units(None).mounts
    assert "Requires" not in units(None).socket


def test_it_sees_of_the_machine_what_is_bound_and_no_more() -> None:
    """Read-only: our own code, the machine's programs at one place, the names of hosts, its code and its secrets."""
    pair = units(bundle=BUNDLE, secrets=(SecretUse("K", file="key"),), **PORT)
    binds = {target: source for source, target, _missing, _flags in pair.service["BindReadOnlyPaths"]}
    assert {each for each in binds if not each.startswith("/run/")} == {
        "/usr/lib/flyted/flyted/launch", HOST, "/etc/resolv.conf", "/etc/hosts", bundle_path(BUNDLE),
        "/etc/flyte/secrets/key", "/root", "/home",
    }  # fmt: skip
    for home in ("/root", "/home"):
        assert binds[home] == f"{root_mount.path(REPLICA)}{home}"
    assert binds[HOST] == "/usr"
    assert binds[IMAGE] == root_mount.path(REPLICA)
    own = app_units(spec("web", **PORT), REPLICA, image_path="", root=ROOT, nameservers=("127.0.0.53",))
    names = [source for source, target, *_ in own.service["BindReadOnlyPaths"] if target == "/etc/resolv.conf"]
    assert names == ["/usr/lib/flyted/resolv.conf"]


def test_the_sandbox_is_that_of_all_apps_but_for_what_the_root_replaces() -> None:
    """Property by property."""
    here, there = units(None, memory_bytes=1 << 30).service, units(memory_bytes=1 << 30).service
    differ = {name for name in here.keys() | there.keys() if here.get(name) != there.get(name)}
    assert differ == {
        "RootDirectory", "MountAPIVFS", "Requires", "After", "ExecStartEx",
        "BindReadOnlyPaths", "TemporaryFileSystem", "ProtectHome",
    }  # fmt: skip


def test_homes_of_the_image_are_seen_over_empty_ones() -> None:
    """Nothing of the machine's is below them, as in the sandbox of other apps."""
    assert units(None).service["ProtectHome"] == "yes"
    assert units().service["ProtectHome"] == "tmpfs"


def test_volumes_and_run_are_in_memory_and_bounded() -> None:
    """What a program writes there counts as its memory, and ends with it."""
    how = dict(units(memory_bytes=1 << 30).service["TemporaryFileSystem"])
    for folder in ("/data", "/var/lib/x", "/run"):
        assert how[folder] == f"mode=1777,size={1 << 30}"
    assert dict(units(None).service["TemporaryFileSystem"])["/run"].startswith("ro,")
    assert told(units()).volumes == ["/data", "/var/lib/x"]


def test_each_unit_has_the_folder_of_its_revision_for_itself() -> None:
    """In a root of its own an app's cache is no link to a folder below ``private``: a cover there covers nothing."""
    here = [path for path, _ in units(None).service["TemporaryFileSystem"] if path.endswith("/revision")]
    there = [path for path, _ in units().service["TemporaryFileSystem"] if path.endswith("/revision")]
    assert here == [f"/var/cache/private/{state_name(REPLICA.app_id)}/revision"]
    assert there == [f"/var/cache/{state_name(REPLICA.app_id)}/revision"]


def test_the_images_variables_count_and_the_apps_win() -> None:
    """PATH too; an image without one gets a container's."""
    env = (("PATH", "/opt/venv/bin:/bin"), ("A", "image"), ("B", "image"))
    app = app_units(spec("web", env=(("B", "app"),)), REPLICA, image_path="", image_env=env, root=ROOT)
    document = json.loads(app.start)
    assert (document["environment"]["A"], document["environment"]["B"]) == ("image", "app")
    assert document["environment"]["PATH"] == "/opt/venv/bin:/bin"
    assert json.loads(units().start)["environment"]["PATH"].startswith("/usr/local/sbin:/usr/local/bin:")
    assert told(units()).workdir == "/app"


def test_each_property_can_be_sent_and_a_change_of_the_mount_shows() -> None:
    """As for other apps: what is written beside the units says whether they are those of now."""
    pair = units()
    assert properties(pair.socket)
    assert properties(pair.service)
    assert auxiliary(pair.mounts.items())
    old = app_units(spec("web"), REPLICA, image_path="/usr", root=ROOT, platform=Platform(kernel=(6, 1)))
    assert old.start != pair.start


def test_the_fact_is_stored_and_read() -> None:
    """With the revision, as JSON; one without a root as before."""
    for fact in (ImageFact("/i"), ImageFact("", "h", env=(("A", "b"),), root=ROOT)):
        assert ImageFact.from_dict(json.loads(json.dumps(fact.to_dict()))) == fact
    before = {name: value for name, value in ImageFact("/i").to_dict().items() if name != "root"}
    assert ImageFact.from_dict(before) == ImageFact("/i")


@pytest.mark.parametrize(
    "name", ["NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "LISTEN_FDS", "CACHE_DIRECTORY", "WATCHDOG_USEC"]
)
def test_an_image_cannot_say_what_systemd_says(name: str) -> None:
    """launch would wait for a socket, or look for secrets and listeners, where the image has it."""
    env = ((name, "/x"), ("LOG_DIRECTORY", "/l"))
    made = app_units(spec("web"), REPLICA, image_path="/usr", root=ROOT, image_env=env)
    found = json.loads(made.start)["environment"]
    assert name not in found
    assert found["LOG_DIRECTORY"] == "/l"
