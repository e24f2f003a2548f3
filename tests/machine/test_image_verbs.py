"""``flytectl image pull``, ``rebuild`` and ``prune``: with a registry, apps that serve meanwhile, and kills."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.registry.manifest import OCI_MANIFEST
from tests.machine.kit import hub as hubs
from tests.machine.kit.hub import HOST, PLATFORM, Hub, page
from tests.machine.kit.units import must, sh
from tests.machine.kit.users import alice, answer, by, curl, forget_apps, forget_secrets, give, refused, running, until
from tests.machine.test_changes import last
from tests.registry.server import LAYER

ARCH = PLATFORM.partition("/")[2]
NAME = f"{HOST}/team/app"
STATE = Path("/var/lib/flyted")
RUN = {"Entrypoint": ["/bin/httpd", "-f"], "Cmd": ["-p", "8080", "-h", "/www"], "User": "root"}
APP = """
import flyte, flyte.app
from pathlib import Path
env = flyte.app.AppEnvironment(name="verbs-{name}", requires_auth=False, image={image}, command={command})
"""
STEP = "cat /proc/sys/kernel/random/uuid >/www/index.html"
AGES = 'flyte.Image.from_dockerfile(Path(__file__).parent / "aged/Dockerfile", registry="r", name="n")'
PACKAGES = 'flyte.Image.from_debian_base().with_pip_packages("six")'
SERVER = ("python", "-m", "http.server", "8080")


def served(name: str, image: str, command: tuple[str, ...] = ()) -> str:
    """What is said when an app of this image is served."""
    text = APP.format(name=name, image=image, command=list(command))
    return alice("flytectl", "serve", give(f"verbs/{name}.py", text)).stderr


def got(name: str) -> str:
    status, body = curl(f"https://verbs-{name}.apps.localhost/")
    assert status == 200, body
    return body.strip()


def image_of(name: str) -> dict[str, Any]:
    """The image of an app, as it is listed."""
    found = answer("app", "get", f"verbs-{name}")["image"]["hash"]
    (listed,) = [each for each in answer("image", "ls")["images"] if each["hash"] == found]
    return dict(listed)


def revision(name: str) -> int:
    return int(answer("app", "get", f"verbs-{name}")["revision"])


def layers() -> set[str]:
    """The layers on the disk."""
    return {path.name for path in (STATE / "layers").iterdir() if len(path.name) == 32}


def dockerfile(command: str) -> None:
    give("verbs/aged/Dockerfile", f"FROM {NAME}:page\nRUN {command}\n")


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """A registry with a small image, for this machine and for another one."""
    with hubs.serving() as made, hubs.trusted(made):
        made.image("page", [(page("one"), LAYER)], ARCH, run=RUN)
        made.image("other", [(page("other"), LAYER)], "arm64" if ARCH != "arm64" else "amd64", run=RUN)
        alice("flytectl", "secret", "create", "hub-login", "-", "--replace", typed=hubs.login())
        alice("flytectl", "secret", "create", "wrong-login", "-", "--replace", typed=hubs.login("other"))
        forget_apps("verbs-")
        yield made
        forget_apps("verbs-")
        forget_secrets("hub-login", "wrong-login")


@pytest.fixture
def aged(hub: Hub) -> None:
    """An app whose image has another page each time its command is run."""
    dockerfile(STEP)
    served("aged", AGES)


def test_a_pulled_image_is_listed_and_the_next_deploy_takes_it(hub: Hub) -> None:
    """By digest; its deploy unpacks nothing."""
    text, name = uuid.uuid4().hex, f"{NAME}:ahead"
    hub.image("ahead", [(page(text), LAYER)], ARCH, run=RUN)
    done = alice("flytectl", "image", "pull", name)
    assert "layer 1 of 1" in done.stderr
    assert "unpack sha256:" in done.stderr
    found = answer("image", "pull", name)
    assert f"{found['name']} is {found['digest']}\nimage {found['hash'][:12]}: 1 layer, " in done.stdout
    manifest = hub.ask("GET", "manifests/ahead", accept=OCI_MANIFEST)[1]
    assert found["digest"] == f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    assert found["bytes"] > 100_000
    assert answer("image", "get", found["hash"][:12])["used_by"] == []
    assert f"image pull {found['name']}: done, by alice" in last("FLYTED_VERB=image.pull")
    assert "unpack" not in served("page", repr(name))
    assert got("page") == text
    assert answer("image", "get", found["hash"])["used_by"] == ["verbs-page"]


def test_what_cannot_be_pulled_is_said(hub: Hub) -> None:
    """Names, tags, machines and logins; nothing is left of it."""
    before = answer("image", "ls")
    for name, status, words in (
        ("Nginx", 2, "is not a container image"),
        (f"{NAME}:none", 8, "check the name and the tag"),
        (f"{NAME}:other", 8, "made for this machine"),
        (f"{NAME}@sha256:{'0' * 64}", 8, "check the name"),
    ):
        assert words in refused("flytectl", "image", "pull", name, status=status)
    login = ("flytectl", "image", "pull", f"{NAME}:page", "--registry-secret")
    assert "--registry-secret LOGIN" in refused(*login, "wrong-login", status=8)
    assert "secret create no-login" in refused(*login, "no-login", status=4)
    assert answer("image", "ls") == before
    assert "Settings    images.registry_secret" in alice("flytectl", "secret", "get", "hub-login").stdout


@pytest.mark.usefixtures("aged")
def test_a_rebuild_makes_the_image_anew_and_no_request_fails() -> None:
    """Both apps that use it get it; what is served later stays there."""
    served("same", AGES)
    old, first, number = image_of("aged"), got("aged"), revision("aged")
    assert (old["used_by"], got("same")) == (["verbs-aged", "verbs-same"], first)
    with running("sh", "-c", "while curl -sSf https://verbs-aged.apps.localhost/ >/dev/null; do :; done") as asking:
        done = answer("image", "rebuild", old["hash"][:12])
        assert asking.poll() is None, "a request failed"
    assert (done["before"], done["deployed"], done["left"]) == (old["hash"], ["verbs-aged", "verbs-same"], [])
    new, second = image_of("aged"), got("aged")
    assert (new["hash"], revision("aged")) == (done["hash"], number + 1)
    assert got("same") == second != first
    assert new["layers"][-1]["source"] == old["layers"][-1]["source"]
    served("aged", AGES)
    assert (got("aged"), revision("aged")) == (second, number + 1)
    alice("flytectl", "app", "delete", "--yes", "--data", "verbs-same")
    assert "app verbs-aged, verbs-same" in last("FLYTED_VERB=image.rebuild")


def test_an_environment_is_rebuilt_and_taken_with_the_next_deploy() -> None:
    """Not deployed at once if that is not wanted."""
    served("pips", PACKAGES, SERVER)
    old, number = image_of("pips"), revision("pips")
    done = answer("image", "rebuild", "--no-deploy", old["hash"])
    assert (done["deployed"], done["left"], revision("pips")) == ([], ["verbs-pips"], number)
    served("pips", PACKAGES, SERVER)
    assert (image_of("pips")["hash"], revision("pips")) == (done["hash"], number + 1)
    assert done["hash"] != old["hash"]
    assert "Directory listing" in got("pips")


@pytest.mark.usefixtures("aged")
def test_a_rebuild_that_fails_or_is_killed_leaves_all_as_it_was() -> None:
    """The registry refuses; flyted is killed in a step. Then it works."""
    dockerfile(f"{STEP}; /bin/busybox sleep 3")
    served("aged", AGES)
    old, text, number = image_of("aged")["hash"], got("aged"), revision("aged")
    alice("flytectl", "secret", "create", "hub-login", "-", "--replace", typed=hubs.login("other"))
    assert "login" in refused("flytectl", "image", "rebuild", old, status=8)
    alice("flytectl", "secret", "create", "hub-login", "-", "--replace", typed=hubs.login())
    assert (image_of("aged")["hash"], got("aged"), revision("aged")) == (old, text, number)
    with running("flytectl", "image", "rebuild", old) as asked:
        until(lambda: "running" in sh("systemctl", "list-units", "--no-legend", "flyted-layer-*"))
        must("systemctl", "kill", "--signal=KILL", "flyted.service")
        asked.wait(60)
    until(lambda: by("alice", "flytectl", "app", "ls").returncode == 0)
    assert got("aged") == text
    served("aged", AGES)
    assert (image_of("aged")["hash"], got("aged"), revision("aged")) == (old, text, number)
    done = answer("image", "rebuild", old)
    assert (done["deployed"], image_of("aged")["hash"]) == (["verbs-aged"], done["hash"])
    assert got("aged") != text


@pytest.mark.usefixtures("aged")
def test_prune_removes_what_no_app_uses_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    """Not what is mounted, by whomever; apps go on."""
    served("pips", PACKAGES, SERVER)
    hub.image("more", [(page("more"), LAYER)], ARCH, run=RUN)
    pulled = answer("image", "pull", f"{NAME}:more")
    used, before = {image_of(name)["hash"] for name in ("aged", "pips")}, layers()
    would = answer("image", "prune", "--dry-run")
    assert pulled["hash"] in {each["hash"] for each in would["images"]}
    assert layers() == before
    (layer,) = json.loads((STATE / "roots" / f"{pulled['hash']}.json").read_text())["layers"]
    place, empty = tmp_path / "mounted", tmp_path / "empty"
    place.mkdir()
    empty.mkdir()
    must("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={STATE}/layers/{layer}/diff:{empty}", str(place))
    try:
        done = answer("image", "prune", "--yes")
        assert layer in layers()
    finally:
        must("umount", str(place))
    assert (done["layers"], done["downloads"]) == (would["layers"] - 1, would["downloads"])
    assert done["bytes"] >= done["downloads"] > 0
    assert not (STATE / "blobs").exists()
    assert used <= {each["hash"] for each in answer("image", "ls")["images"]}
    again = alice("flytectl", "image", "prune", "--yes").stdout
    assert again.startswith("deleted: 1 layer; "), again
    assert layer not in layers()
    assert alice("flytectl", "image", "prune", "--yes").stdout == "nothing to delete\n"
    alice("flytectl", "app", "sleep", "verbs-aged")
    assert got("aged")
    assert "Directory listing" in got("pips")


@pytest.mark.usefixtures("hub")
def test_a_prune_beside_deploys_breaks_none() -> None:
    """Again and again, while images are built, served and deleted."""
    dockerfile(STEP)
    with running("sh", "-c", "while :; do flytectl image prune --yes; done"):
        for _ in range(2):
            served("aged", AGES)
            served("page", f'"{NAME}:page"')
            assert got("aged")
            assert got("page") == "one"
            alice("flytectl", "app", "delete", "--yes", "--data", "verbs-aged", "verbs-page")
    until(lambda: sh("systemctl", "list-units", "--no-legend", "flyted-*-removal.service") == "")
