"""Where each unit can write, tried in every folder that it reaches: the whole list, so that none is there by chance.

/run and /run/lock are one place for the whole machine: who can write there can talk to other apps and fill it for all.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from flyted.plan.facts import UnitEnd
from flyted.plan.images.build_unit import BuildSettings, build_unit, image_dir, unit_name
from flyted.plan.images.layer_unit import layer_unit_name
from flyted.plan.images.recipe import Recipe
from tests.machine.kit import layers
from tests.machine.kit.units import HOME, connected, do, place_stub_app, run, serving, sh, spec, stub_app

WALKER = (Path(__file__).with_name("kit") / "walker.py").read_text()
PRIVATE = {"/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"}
HASH = "0123456789abcdef0123456789abcdef"


def walk_as(unit: str) -> set[str]:
    """What a process of a unit could write to: its view of the files, its user, no capability."""
    cgroup = sh("systemctl", "show", "-P", "ControlGroup", unit)
    pids = Path(f"/sys/fs/cgroup{cgroup}/cgroup.procs").read_text().split()
    # slirp4netns leaves the unit's view for an empty one of its own
    pid = next(pid for pid in pids if "slirp" not in Path(f"/proc/{pid}/comm").read_text())
    status = Path(f"/proc/{pid}/status").read_text().split("\n")
    uid, gid = (next(line.split()[2] for line in status if line.startswith(name)) for name in ("Uid:", "Gid:"))
    groups = next(line.split()[1:] for line in status if line.startswith("Groups:"))
    also = ["--groups", ",".join(groups)] if groups else ["--clear-groups"]
    become = ["setpriv", "--reuid", uid, "--regid", gid, *also, "--inh-caps=-all", "--bounding-set=-all"]
    program = f"{WALKER}\nimport json\nprint(json.dumps(found()))"
    done = subprocess.run(
        ["nsenter", "--target", pid, "--mount", *become, "python3", "-I", "-c", program],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("network", [{}, {"egress": False}, {"port": 8080}])
def test_an_app_writes_to_what_is_its_own(network: dict[str, object]) -> None:
    """Its state, its cache, and folders that are made for it alone."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("writer", **network)) as replica:
            source = f"(lambda all: (exec({WALKER!r}, all), all['found']())[1])({{}})"
            state = f"private/flyted-app-{replica.app_id}"
            wanted = PRIVATE | {f"/var/lib/{state}", f"/var/cache/{state}"}
            assert set(eval(await do(replica, source))) == wanted
            hidden = await do(replica, "sorted(os.listdir('/run')), sorted(os.listdir('/run/systemd'))")
            assert hidden == str((["credentials", "systemd"], ["incoming", "journal", "notify", "userdb"])), hidden
            if "port" in network:
                assert walk_as("flyted-net.service") == PRIVATE

    with stub_app():
        run(work())


@pytest.mark.parametrize("isolated", [False, True])
def test_a_build_writes_to_images_and_one_apart_to_its_own(*, isolated: bool) -> None:
    """A unit as the daemon makes it, with a builder that looks around."""
    place_stub_app()
    builder = HOME / "builder.py"
    builder.write_text(
        f"{WALKER}\nimport json, pathlib\npathlib.Path('{image_dir(HASH)}/found').write_text(json.dumps(found()))"
    )
    builder.chmod(0o644)
    folder = Path(image_dir(HASH))
    folder.mkdir(parents=True)
    shutil.chown(folder, "flyted-build", "flyted-build")

    async def work() -> None:
        async with connected() as units:
            made = build_unit(HASH, Recipe("3.13", ()), BuildSettings(builder=str(builder)), isolated=isolated)
            end = await units.run_transient(unit_name(HASH), made, 60)
            assert end == UnitEnd("success", 0), sh("journalctl", "-n20", "-u", unit_name(HASH))

    try:
        run(work())
        images = str(folder) if isolated else str(folder.parent)
        assert set(json.loads((folder / "found").read_text())) == PRIVATE | {images}
    finally:
        shutil.rmtree(folder)


def test_the_unit_of_a_layer_writes_to_nothing() -> None:
    """Its main process is the user who owns the images of builds: it sees none of these, and may enter no layer."""
    base, layer = layers.name("writes to nothing"), layers.name("writes")
    found: list[set[str]] = []
    with layers.clean():
        assert layers.busybox(base).ok
        step = {**layers.shell(""), "argv": ["/sh", "-c", "echo ready; sleep 10"]}
        made = layers.make(layer, [base], step, then=lambda: found.append(walk_as(layer_unit_name(layer))))
        assert made.ok, made.text
    assert found == [PRIVATE]


def test_our_own_units_write_to_what_is_theirs() -> None:
    """The daemon is root without a capability, so the modes of the folders do not stop it: its mounts do."""
    subprocess.run(["curl", "-sk", "-o", "/dev/null", "https://flyted.localhost"], check=True)  # wakes the gateway
    subprocess.run(["systemctl", "start", "flyted-gpu.service"], check=True)
    assert walk_as("flyted-gpu.service") == PRIVATE
    assert walk_as("flyted-gateway.service") == PRIVATE | {"/var/lib/private/flyted-gateway"}
    assert walk_as("flyted-ingress.service") == PRIVATE
    huge_pages = {"/dev/hugepages"}  # for root, where the kernel has them
    assert walk_as("flyted.service") - huge_pages == PRIVATE | {"/run/flyted", "/var/lib/flyted"}
