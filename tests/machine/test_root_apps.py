"""Apps in the root of their image, as PID 1 mounts and starts them, from layers as a build leaves them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.contract.app import AppSpec, SecretUse
from flyted.contract.names import Replica
from flyted.plan.facts import ImageFact
from flyted.plan.images import root_mount
from tests.machine.kit import roots
from tests.machine.kit.programs import processes
from tests.machine.kit.roots import deployed, image, mounted, spec
from tests.machine.kit.settings import settings
from tests.machine.kit.units import connected, must, run, sh, show
from tests.machine.kit.users import alice, curl, forget_apps, forget_secrets, until
from tests.machine.test_sandbox_live import exposure

CANARY = "CANARY-5e1f0a77"
KEYS = ("ROOTED_TOKEN", "ROOTED_FILE")
SHELL = """
{ echo "$ROOTED_TOKEN"; cat /etc/flyte/secrets/ROOTED_FILE; echo; echo "$FROM_IMAGE $FROM_APP"; } >/tmp/index.html
exec httpd -f -p 8080 -h /tmp
"""
FSERVE = (
    *("fserve", "--version", "abc", "--project", "default", "--domain", "development", "--org", ""),
    *("--resolver", "flyte._internal.resolvers.app_env.AppEnvResolver", "--resolver-args", "main:env", "--"),
)
ENV = (("FROM_IMAGE", "image"), ("FROM_APP", "image"))


@pytest.fixture(scope="module")
def layers() -> Iterator[dict[str, str]]:
    """The layers of all images, by name."""
    with roots.layers_folder():
        found = {
            "debian": roots.debian(1),
            "site": roots.site(2),
            "busybox": roots.busybox(3),
            "files": roots.files(4, main_py=roots.PROBE, nginx_conf=roots.NGINX, node_js=roots.NODE),
            "data": roots.data(5),
        }
        yield found
        forget_apps("rooted-")
        forget_secrets(*KEYS)


@pytest.fixture(scope="module")
def apps(layers: dict[str, str]) -> dict[str, Replica]:
    """One app of each kind, all asleep; "venv" has no root, and the same code and packages."""
    for key in KEYS:
        alice("flytectl", "secret", "create", key, "-", "--replace", typed=f"{CANARY}-{key}")
    full = (layers["debian"], layers["site"], layers["files"], layers["data"])
    bundle = roots.bundled("main.py", roots.PROBE)
    server = image(full, python=roots.PYTHON, workdir="/srv", volumes=("/data",))
    secrets = (SecretUse(KEYS[0], env=KEYS[0]), SecretUse(KEYS[1], file=KEYS[1]))
    shell = spec("rooted-busybox", "/bin/sh", "-c", SHELL, port=8080, secrets=secrets, env=(("FROM_APP", "app"),))
    wanted: list[tuple[AppSpec, ImageFact]] = [
        (shell, image((layers["busybox"],), ENV)),
        (
            spec("rooted-nginx", "nginx", "-c", "/srv/nginx.conf", port=80),
            image(full, volumes=("/var/lib/nginx", "/var/log/nginx")),
        ),
        (spec("rooted-node", "node", "/srv/node.js", port=8080), image(full)),
        (spec("rooted-server", *FSERVE), server),
        (spec("rooted-uvicorn", f"{roots.PYTHON[:-6]}uvicorn", "main:app"), server),
        (spec("rooted-bundle", *FSERVE, bundle=bundle), server),
        (spec("rooted-venv", *FSERVE, bundle=bundle), ImageFact(str(Path(roots.PYTHON).parents[1]))),
    ]
    names = (each.key.name.removeprefix("rooted-") for each, _ in wanted)
    return dict(zip(names, deployed(*wanted), strict=True))


def ask(name: str) -> str:
    """What an app answers to alice; it wakes for it."""
    status, body = curl(f"https://rooted-{name}.apps.localhost/")
    assert status == 200, body + sh("journalctl", "-n30", "-o", "cat", "-u", f"flyted-app-rooted-{name}-r1-0.service")
    return body.strip()


def answers(name: str) -> bool:
    """Whether it answers: in the moment without a socket, while its units are made anew, the ingress says 503."""
    return curl(f"https://rooted-{name}.apps.localhost/")[0] == 200


def asleep(replica: Replica) -> None:
    """Its service has ended, its socket listens."""
    alice("flytectl", "app", "sleep", replica.app_id)
    assert sh("systemctl", "is-active", replica.service) == "inactive"


def test_a_program_needs_nothing_of_its_image(apps: dict[str, Replica]) -> None:
    """No Python and no C library; it has its secrets as a variable and a file, and the image's variables."""
    assert ask("busybox").split() == [f"{CANARY}-{KEYS[0]}", f"{CANARY}-{KEYS[1]}", "image", "app"]
    lines = list(processes(apps["busybox"].service).values())
    assert any(line.startswith("httpd -f -p 8080") for line in lines), lines


def test_nginx_serves_on_port_80(apps: dict[str, Replica]) -> None:
    """Debian's own, as it stands: its volumes and /run are writable."""
    assert mounted(apps["nginx"])
    assert ask("nginx") == "from nginx"


def test_node_serves(apps: dict[str, Replica]) -> None:
    """A root with a Python that nobody asked for."""
    assert mounted(apps["node"])
    assert ask("node") == "from node"


def test_a_server_function_runs_on_the_images_python(apps: dict[str, Replica]) -> None:
    """Its module lies in the image's working folder, or comes by bundle, which then is where it starts."""
    assert mounted(apps["server"])
    found = json.loads(ask("server"))
    assert (found["python"], found["cwd"], found["module"]) == (roots.PYTHON, "/srv", "/srv/main.py")
    assert found["path"].startswith("/opt/rooted/bin:/usr/local/sbin:")
    found = json.loads(ask("bundle"))
    assert (found["cwd"], found["module"]) == ("/var/lib/flyted-app-rooted-bundle/work", f"{found['cwd']}/main.py")


def test_uvicorn_runs_in_the_images_working_folder(apps: dict[str, Replica]) -> None:
    """It takes the inherited socket, as without a root."""
    assert mounted(apps["uvicorn"])
    assert json.loads(ask("uvicorn"))["module"] == "/srv/main.py"


def test_an_app_cannot_write_to_its_root_nor_see_the_machine(apps: dict[str, Replica]) -> None:
    """But for what is its own: state, /tmp, /run and volumes, which have what the image has there."""
    assert mounted(apps["server"])
    found = json.loads(ask("server"))
    refused = ("OSError: [Errno 30]", "PermissionError", "FileNotFoundError")
    assert {path: said for path, said in found["writes"].items() if not said.startswith(refused)} == {}
    assert {path: said for path, said in found["own"].items() if said != "1"} == {}
    assert found["data"] == "from the image"
    assert found["reads"]["/home"] == "[]"
    seen = set(found["reads"]["/run"].strip("[]").replace("'", "").split(", "))
    assert seen <= {"credentials", "flyted", "host", "systemd", "user", "x"}, "x is its own, user is empty"
    assert "alice" not in json.dumps(found["reads"])
    for path in ("/checkout", "/etc/flyted"):
        assert found["reads"][path].startswith("FileNotFoundError"), path
    assert found["reads"]["/var/lib/flyted"] == "[]"
    for what in ("database", "control"):
        assert found[what].startswith(refused), what
    assert set(found["owners"]) <= {0, 65534}, "the image's files are nobody's here"
    assert found["localhost"] in ("127.0.0.1", "::1")
    assert found["resolved"]
    assert found["pids"]
    assert found["setuid"] != "0"
    status = "".join(found["status"]).split()
    assert set(status[1::2][:2]) <= {"0000000000000000"}


def test_the_sandbox_is_that_of_an_app_without_a_root(apps: dict[str, Replica]) -> None:
    """As PID 1 has it, each property with its value: what differs is what makes the root, and no score is worse."""
    for name in ("venv", "bundle"):
        ask(name)
    plain, rooted = apps["venv"], apps["bundle"]
    assert show(rooted.service, *roots.VARIES) == roots.in_root(plain, rooted, "/data")
    assert roots.program(rooted) == roots.program(plain)
    assert exposure(rooted.service) <= exposure(plain.service)


@pytest.mark.parametrize("how", ["reload", "killed", "unmounted"])
def test_a_root_stays_over_a_sleep_and_a_wake_needs_no_flyted(apps: dict[str, Replica], how: str) -> None:
    """Also after daemon-reload, while flyted is gone, and where somebody has unmounted it."""
    replica = apps["busybox"]
    ask("busybox")
    before = sh("systemctl", "show", "-P", "InvocationID", root_mount.unit(replica))
    asleep(replica)
    assert mounted(replica)
    if how == "reload":
        must("systemctl", "daemon-reload")
    elif how == "killed":
        pid = int(sh("systemctl", "show", "-P", "MainPID", "flyted.service"))
        os.kill(pid, signal.SIGKILL)
        must("systemctl", "kill", "-s", "KILL", "flyted.service")
    else:
        must("umount", root_mount.path(replica))
        until(lambda: not mounted(replica))
    assert ask("busybox").endswith("image app")
    assert mounted(replica)
    after = sh("systemctl", "show", "-P", "InvocationID", root_mount.unit(replica))
    assert (after == before) == (how != "unmounted")
    until(lambda: sh("systemctl", "is-active", "flyted") == "active")


def test_units_are_made_anew_with_their_mount(apps: dict[str, Replica]) -> None:
    """As after an upgrade: systemd makes no unit in place of one that is loaded."""
    replica = apps["busybox"]
    asleep(replica)
    with settings("[apps]\nstart_timeout = 231"):
        until(lambda: sh("systemctl", "show", "-P", "TimeoutStartUSec", replica.service) == "3min 51s")
        until(lambda: answers("busybox"))
        asleep(replica)
    until(lambda: sh("systemctl", "show", "-P", "TimeoutStartUSec", replica.service) == "5min")
    until(lambda: answers("busybox"))
    assert mounted(replica)


def test_after_a_reboot_all_is_made_anew(apps: dict[str, Replica]) -> None:
    """Of the units and of /run nothing is left then."""
    replica = apps["busybox"]
    with roots.stopped():
        sh("systemctl", "stop", replica.socket, replica.service)
        until(lambda: unmounted(replica))
    until(lambda: answers("busybox"))


def test_forty_layers_are_mounted(layers: dict[str, str]) -> None:
    """The topmost file is the one that is seen, and what a layer deletes is gone."""
    many = [roots.files(100 + number, index_html=f"layer {number}\n", **{f"f{number}": "x"}) for number in range(39)]
    last, folder = roots.layer(139)
    (folder / "srv").mkdir()
    os.mknod(folder / "srv/f7", 0o600 | 0o020000, os.makedev(0, 0))  # a whiteout
    roots.owned(folder)
    made = spec("rooted-many", "/bin/sh", "-c", "cd /srv; exec httpd -f -p 8080 -h /srv", port=8080)
    (replica,) = deployed((made, image((layers["busybox"], *many, last))))
    assert ask("many") == "layer 38"
    assert curl("https://rooted-many.apps.localhost/f6")[0] == 200
    assert curl("https://rooted-many.apps.localhost/f7")[0] == 404
    gone(replica)


def test_an_older_kernel_would_mount_forty_layers_too(layers: dict[str, str]) -> None:
    """In one text, by mount(2): mount(8) of util-linux 2.39 would cut it at 255 bytes."""
    replica, many = (
        Replica("rooted-old", 1),
        [roots.files(300 + number, **{f"f{number}": "x"}) for number in range(40)],
    )
    unit = root_mount.unit(replica)
    wanted = root_mount.properties(replica, [layers["busybox"], *many], (6, 1)) | {"StopWhenUnneeded": False}

    async def story() -> None:
        async with connected() as units:
            assert await units.start_socket(unit, wanted) == "done", sh("journalctl", "-n9", "-u", unit)
            assert len(sh("ls", f"{root_mount.path(replica)}/srv").split()) == len(many)
            await units.stop(unit)

    run(story())
    until(lambda: unmounted(replica))


def unmounted(replica: Replica) -> bool:
    """Whether nothing is left of its mount: PID 1 deletes what it made."""
    left = (sh("findmnt", "-rn"), sh("systemctl", "list-units", "--all"), sh("ls", "/run/flyted/roots"))
    return not any(root_mount.name(replica) in each for each in left)


def gone(replica: Replica) -> None:
    """A deleted app leaves no mount and no folder."""
    alice("flytectl", "app", "delete", "--yes", "--data", replica.app_id)
    until(lambda: unmounted(replica))


def test_a_root_that_cannot_be_mounted_is_said(layers: dict[str, str]) -> None:
    """By the app's state; the others go on, and it serves when the layer is there again."""
    hidden = roots.LAYERS / roots.files(200)
    moved = hidden.with_name("moved")
    made = spec("rooted-lost", "/bin/httpd", "-f", "-p", "8080", "-h", "/srv", port=8080)
    fact = image((layers["busybox"], hidden.name))
    hidden.rename(moved)
    with roots.stopped() as store:
        number = store.add_revision(made, fact, "lost", time.time(), "root")
        store.serve(made.key.id, number, time.time())
    until(lambda: "cannot be mounted" in sh("flytectl", "app", "get", "rooted-lost"))
    moved.rename(hidden)
    until(lambda: mounted(Replica(made.key.id, number)), 90)
    gone(Replica(made.key.id, number))


def test_images_are_for_their_apps_alone(apps: dict[str, Replica]) -> None:
    """A user of the machine comes neither to layers nor to roots."""
    for path in (root_mount.path(apps["server"]), "/run/flyted/roots", str(roots.LAYERS)):
        done = subprocess.run(["runuser", "-u", "mallory", "--", "ls", path], capture_output=True, check=False)
        assert done.returncode != 0, path


def test_no_secret_is_left_behind(apps: dict[str, Replica]) -> None:
    """Neither in a unit nor in the root."""
    for unit in (apps["busybox"].service, root_mount.unit(apps["busybox"])):
        assert CANARY not in sh("systemctl", "cat", unit) + sh("systemctl", "show", unit)
    assert sh("grep", "-rl", CANARY, root_mount.path(apps["busybox"])) == ""
