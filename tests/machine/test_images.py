"""Images in the booted machine: built once, apart where code of packages runs, removed when nobody needs them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.answers.events import Event
from flyted.daemon.images import venvs
from flyted.host.disk import disk_space
from flyted.plan.images.build_unit import BuildSettings, unit_name
from flyted.plan.images.recipe import Install, Recipe
from tests.build.harness import source, wheel
from tests.machine.kit.units import connected, must, sh
from tests.machine.kit.users import (
    alice,
    answer,
    curl,
    forget_apps,
    give,
    lines_of,
    refused,
    running,
    serve,
    until,
)

IMAGES = Path("/var/lib/flyted/images")
NOTES = Path("/var/lib/flyted/unused-images.json")
SOURCE = """
from fastapi import FastAPI
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.get("/")
def root() -> str:
    return "here"

env = FastAPIAppEnvironment(
    name={name!r}, app=app, requires_auth=False,
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn", {package!r}),
)
"""
# what a source package's build tries on everything that it can see: to write, to replace, to delete, to add
ATTACK = """
    import collections, os
    own, seen = {own!r}, collections.Counter()
    def attempt(what, *words, **more):
        try:
            what(*words, **more)
            seen["done"] += 1
        except OSError as error:
            seen[error.strerror] += 1
    for where, folders, files in os.walk({images!r}):
        folders[:] = [each for each in folders if os.path.join(where, each) != own]
        attempt(open, os.path.join(where, "planted.pth"), "x")
        for path in (os.path.join(where, each) for each in files):
            attempt(os.chmod, path, 0o777)
            attempt(open, path, "ab")
            attempt(os.rename, path, path + ".moved")
            attempt(os.link, path, os.path.join(own, "link-to-it"))
            attempt(os.unlink, path)
    pathlib.Path(own, "report").write_text(repr(dict(seen)))
"""


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    forget_apps("images-")


@pytest.fixture
def packages() -> Iterator[tuple[Path, tuple[str, ...]]]:
    """A folder of packages that builds can read, and the options with which they get them from nowhere else."""
    folder = Path("/srv/flyted-packages")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(0o755)
    yield folder, ("--no-index", "--find-links", str(folder))
    shutil.rmtree(folder)


def built(digest: str, requirement: str, options: tuple[str, ...]) -> tuple[str, list[str]]:
    """Builds an image of one requirement with the daemon's own means; why it failed if it did, and what was said."""
    said: list[str] = []

    async def emit(event: Event) -> None:
        said.append(event.text)

    async def work() -> str:
        async with connected() as units:
            recipe = Recipe("3.13", (Install("the test", (requirement,), options),))
            return (await venvs.run(units, digest, recipe, BuildSettings(), others, emit)).message

    others = [path.name for path in IMAGES.glob("[0-9a-f]*")]
    failure = asyncio.run(work())
    return "" if (IMAGES / digest / "image.json").exists() else failure, said


def content(*folders: Path) -> dict[str, str]:
    """Every file with its mode and content, every link with its target."""
    found = {}
    for path in (path for folder in folders for path in sorted(folder.rglob("*"))):
        if path.is_symlink():
            found[str(path)] = str(path.readlink())
        else:
            data = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
            found[str(path)] = f"{path.stat().st_mode:o} {data}"
    return found


def app(name: str, package: str = "iniconfig==2.0.0") -> str:
    """Write an app of alice's whose image has a package that no other test's has; return the file's name."""
    return give(f"images/{name.replace('-', '_')}.py", SOURCE.format(name=name, package=package))


def image_of(name: str) -> dict[str, Any]:
    """The image of an app."""
    return dict(answer("app", "get", name)["image"])


def test_a_source_package_changes_no_other_image(packages: tuple[Path, tuple[str, ...]]) -> None:
    """Neither another image, nor uv's cache and byte code, which share its files, nor the Pythons; only its own."""
    folder, options = packages
    victim, own = "a" * 32, "b" * 32
    wheel(folder, "one", files={"one.py": "VALUE = 1\n"})
    source(folder, "evil", during=ATTACK.format(own=str(IMAGES / own), images=str(IMAGES)).strip())
    try:
        assert built(victim, "one", options)[0] == ""
        module = next((IMAGES / victim).rglob("one.py"))
        assert module.stat().st_nlink > 1  # the cache has it too
        assert next((IMAGES / victim).rglob("one.*.pyc")).stat().st_nlink > 1  # other images may have it
        shared = [IMAGES / name for name in (victim, ".uv/archive-v0", ".bytecode", ".python")]
        before = content(*shared)
        failure, said = built(own, "evil", options)
        assert failure == "", "\n".join(said)
        assert content(*shared) == before
        report = eval((IMAGES / own / "report").read_text())
        assert "done" not in report, report
        assert report["Read-only file system"] > 4 * 10
        assert json.loads((IMAGES / own / "image.json").read_text())["built"] == ["evil==1.0"]
        assert not (IMAGES / own / ".uv").exists()
        assert any("isolated from other images" in line for line in said)
    finally:
        for digest in (victim, own):
            shutil.rmtree(IMAGES / digest, ignore_errors=True)


def test_a_source_package_that_fails_leaves_nothing(packages: tuple[Path, tuple[str, ...]]) -> None:
    """Its folder goes, though the isolated build could not remove it itself; the reason is the package's own."""
    folder, options = packages
    source(folder, "broken", during="raise RuntimeError('no compiler here')")
    before = sorted(IMAGES.iterdir())
    failure, said = built("c" * 32, "broken", options)
    assert failure.startswith("the image could not be built: the test: ")
    assert any("no compiler here" in line for line in said)
    assert sorted(IMAGES.iterdir()) == before
    assert sh("systemctl", "is-active", unit_name("c" * 32)) == "inactive"


def test_a_source_package_that_fills_the_disk_is_killed(
    packages: tuple[Path, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before it is full for the machine: what it has written is deleted."""
    folder, options = packages
    own = "d" * 32
    filler = str(IMAGES / own / "filler")
    source(folder, "greedy", during=f"out = open({filler!r}, 'wb'); [out.write(bytes(1 << 20)) for _ in iter(int, 1)]")
    room = disk_space(IMAGES)[0]
    monkeypatch.setattr(venvs, "KEEP_FREE", room - (512 << 20))
    failure, said = built(own, "greedy", options)
    assert failure.startswith("the image's build was killed: less than 1024 MB of disk space were free"), said
    assert not (IMAGES / own).exists()
    assert disk_space(IMAGES)[0] > room - (256 << 20)


def test_two_apps_that_need_one_new_image_share_its_build() -> None:
    """Served at the same time: built once, both come up, and both clients see what uv says."""
    names = ("images-one", "images-two")
    package = f"iniconfig==2.0.0,!=0.{time.time_ns()}"
    started = time.time()
    with ExitStack() as stack:
        clients = [stack.enter_context(running("flytectl", "serve", app(name, package))) for name in names]
        said = [lines_of(client) for client in clients]
        assert [client.wait(300) for client in clients] == [0, 0], said
    until(lambda: all("https://" in lines[-1] for lines in said))
    first, second = sorted(said, key=lambda lines: any("is already being built" in line for line in lines))
    assert any(line.startswith("building the image of images-") for line in first)
    assert any(re.search(r"the image of images-\w+ is already being built; waiting for it", line) for line in second)
    for lines in (first, second):
        assert any(re.search(r"flyted-build: image \w+ is ready", line) for line in lines), lines
    digests = {image_of(name)["hash"] for name in names}
    assert len(digests) == 1
    unit = unit_name(digests.pop())
    journal = sh("journalctl", "-q", "-o", "cat", f"--since=@{started:.0f}", "_PID=1", f"UNIT={unit}")
    assert len(re.findall(r"^Started ", journal, re.MULTILINE)) == 1, journal
    for name in names:
        assert curl(answer("app", "get", name)["url"])[0] == 200
        built = datetime.fromisoformat(image_of(name)["built_at"]).timestamp()
        assert started - 1 <= built <= time.time()
    assert re.search(r"^  Image +built 20\d\d-", alice("flytectl", "app", "get", names[0]).stdout, re.MULTILINE)


def test_an_image_that_no_app_needs_goes_a_week_later() -> None:
    """Not with the last app that used it; then with the next look, and what of uv's cache no other image shares."""
    serve(app("images-gone", "iniconfig==2.1.0"))
    serve(app("images-kept"))
    gone, kept = image_of("images-gone")["hash"], image_of("images-kept")["hash"]
    alice("flytectl", "app", "delete", "--yes", "--data", "images-gone")
    until(lambda: gone in json.loads(NOTES.read_text()))
    assert kept not in json.loads(NOTES.read_text())
    assert (IMAGES / gone / "image.json").exists()
    NOTES.write_text(json.dumps({**json.loads(NOTES.read_text()), gone: time.time() - 7 * 86400 - 1}))
    must("systemctl", "restart", "flyted.service")
    until(lambda: not (IMAGES / gone).exists() and gone not in json.loads(NOTES.read_text()))
    assert (IMAGES / kept / "image.json").exists()
    until(lambda: sh("systemctl", "is-active", "flyted-build-removal.service") == "inactive")
    assert not list((IMAGES / ".uv").rglob("iniconfig-2.1.0*"))
    assert curl(answer("app", "get", "images-kept")["url"])[0] == 200


def test_a_disk_that_is_full_during_a_build_is_said_once() -> None:
    """What, why and what to type; the exit status of a failed build, nothing half made, and no app."""
    file = app("images-full", "iniconfig==1.1.1")
    options = f"size=16m,mode=755,uid={sh('id', '-u', 'flyted-build')},gid={sh('id', '-g', 'flyted-build')}"
    must("mount", "-t", "tmpfs", "-o", options, "images", str(IMAGES))
    try:
        said = refused("flytectl", "serve", "-q", file, status=8)
        assert f"the disk of {IMAGES} is full" in said
        assert f"hint: free disk space (df -h {IMAGES}" in said
        assert [path.name for path in IMAGES.iterdir() if not path.name.startswith(".")] == []
    finally:
        must("umount", str(IMAGES))
    refused("flytectl", "app", "get", "images-full", status=4)
    assert sh("systemctl", "list-units", "--all", "--no-legend", "--plain", "flyted-build-*") == ""


def test_images_are_listed_with_their_layers_and_users() -> None:
    """As the builder recorded them: sizes, times, requirements."""
    serve(app("images-listed", f"iniconfig==2.0.0,!=1.{time.time_ns()}"))
    (image,) = (each for each in answer("image", "ls")["images"] if "images-listed" in each["used_by"])
    assert image["bytes"] > 10 << 20
    assert image["packages"] > 10
    base = image["layers"][0]
    assert (base["source"], base["requirements"][0][:7]) == ("base image", "flyte==")
    assert base["seconds"] > 0
    text = alice("flytectl", "image", "get", image["hash"][:16]).stdout
    assert f"Hash:        {image['hash']}" in text
    assert "Used by:     images-listed" in text
    assert image["hash"][:12] in alice("flytectl", "image", "ls").stdout
    assert "there is no image" in refused("flytectl", "image", "get", "f" * 32, status=4)


def test_an_image_is_built_ahead_of_its_app() -> None:
    """What is served later runs in it, and builds nothing; a file that is not there is said."""
    file = app("images-ahead", f"iniconfig==2.0.0,!=2.{time.time_ns()}")
    (image,) = answer("image", "build", file)["images"]
    refused("flytectl", "app", "get", "images-ahead", status=4)
    done = alice("flytectl", "serve", file)
    assert "building the image" not in done.stderr
    assert image_of("images-ahead")["hash"] == image["hash"]
    assert f"image {image['hash']} is ready" in alice("flytectl", "image", "build", file).stderr
    assert "hint: flytectl image build FILE [ENV]" in refused("flytectl", "image", "build", "none.py", status=4)


def test_an_existing_environment_is_used() -> None:
    """``--python-env DIR``: the app runs with its Python; ``app get`` says which."""
    python = Path("/opt/images-env")
    must("/usr/bin/python3", "-m", "venv", "--without-pip", str(python))
    version = sh(str(python / "bin/python"), "-c", "import sys; print('cp%d%d' % sys.version_info[:2])")
    packages = next(python.glob("lib/python*/site-packages"))
    packages.joinpath("sdk.pth").write_text(f"/usr/lib/flyted/sdk/{version}\n/usr/lib/flyted/sdk\n")
    try:
        url = serve(app("images-env"), "--python-env", str(python))
        assert curl(url) == (200, '"here"')
        assert image_of("images-env")["path"] == str(python)
        assert f"environment {python}, as given" in alice("flytectl", "app", "get", "images-env").stdout
    finally:
        alice("flytectl", "app", "delete", "--yes", "--data", "images-env")
        shutil.rmtree(python)


@pytest.mark.parametrize(
    ("folder", "status", "words"),
    [
        ("/opt/is-not-there", 4, "is not a Python environment: bin/python: No such file"),
        ("/opt/empty", 4, "is not a Python environment: bin/python: No such file"),
        ("/opt/has$in", 2, "has '$' in its name"),
        ("/opt/has;in", 2, "has ';' in its name"),
        ("/home/alice/env", 2, "apps cannot see home folders"),
    ],
)
def test_a_folder_that_cannot_be_an_environment_is_refused(folder: str, status: int, words: str) -> None:
    """Missing, without a Python, with a name that does not reach a unit, or where apps see nothing; no app is made."""
    made = Path(folder)
    if folder != "/opt/is-not-there":
        made.joinpath("bin").mkdir(parents=True)
        if folder != "/opt/empty":
            made.joinpath("bin/python").symlink_to("/usr/bin/python3")
    try:
        assert words in refused("flytectl", "serve", app("images-refused"), "--python-env", folder, status=status)
        refused("flytectl", "app", "get", "images-refused", status=4)
    finally:
        shutil.rmtree(made, ignore_errors=True)
