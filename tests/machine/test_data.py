"""Where an app keeps what it writes: all of it is there after each deploy, wherever the app wrote it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit.users import alice, answer, by, curl, forget_apps, give, refused

APP = "data-notes"
STATE = Path(f"/var/lib/private/flyted-app-{APP}")
SOURCE = """
import datetime, json, os, pathlib, sqlite3, subprocess, sys, time
from fastapi import FastAPI
import flyte
from flyte.app.extras import FastAPIAppEnvironment

HERE = pathlib.Path(__file__)
PLACES = {{  # where the files that one finds in the world keep their database
    "relative": "notes.db", "beside": os.path.join(os.path.dirname(__file__), "beside.db"),
    "resolved": str(HERE.resolve().parent / "resolved.db"), "in a folder of the bundle": "data/x.db",
    "shipped": "data/seed.db",
    "shipped, resolved": str(HERE.resolve().parent / "data/other.db"), "home": os.path.expanduser("~/home.db"),
}}
app = FastAPI()

@app.get("/")
def root():
    import notes_helper  # late: it has to be that of this revision
    return {{
        "version": {version!r}, "helper": notes_helper.VERSION, "page": open("templates/page.html").read(),
        "cwd": os.getcwd(), "pages": sorted(os.listdir("templates")), "files": sorted(next(os.walk("."))[2]),
        "program": subprocess.check_output([sys.executable, "notes_helper.py"], text=True),
        "byte_code": [str(path) for path in HERE.parent.glob("__pycache__/*.pyc")],
    }}

@app.post("/notes")
def write():
    counts = {{}}
    for name, path in PLACES.items():
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE IF NOT EXISTS note (t TEXT)")
            db.execute("INSERT INTO note VALUES ('milk')")
            counts[name] = db.execute("SELECT count(*) FROM note").fetchone()[0]
        db.close()
    with open("data/in_place.json", "r+") as file:
        counts["in place"] = json.load(file) + 1
        file.seek(0)
        json.dump(counts["in place"], file)
    return counts

@app.get("/slow")
def slow():
    time.sleep(6)
    return root()

if {fails} and os.environ.get("NOTIFY_SOCKET"):
    raise RuntimeError("broken on purpose")

env = FastAPIAppEnvironment(
    name="{app}", app=app, requires_auth=False, include=["templates", "data", "notes_helper.py"],
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn"),
    resources=flyte.Resources(memory="512Mi"),
    scaling=flyte.app.Scaling(replicas=(0, 1), scaledown_after=datetime.timedelta(seconds=600)),
)
"""


def serve(version: str, *, page: str = "page.html", fails: bool = False) -> str:
    """Serves a version; its URL. Its other page is there in this version alone."""
    alice("rm", "-rf", "notes")
    give("notes/notes_helper.py", f"VERSION = {version!r}\nif __name__ == '__main__': print(VERSION, end='')\n")
    give("notes/templates/page.html", version)
    give(f"notes/templates/{page}", version)
    give("notes/data/in_place.json", "0")
    for name in ("seed", "other"):
        made = f"sqlite3.connect('notes/data/{name}.db').execute('CREATE TABLE note (t TEXT)')"
        alice("python3", "-c", f"import sqlite3; {made}")
    file = give("notes/notes_app.py", SOURCE.format(version=version, fails=fails, app=APP))
    command = f"cd notes && flytectl serve -q {Path(file).name}"
    if fails:
        alice("sh", "-c", f"{command} && exit 1 || exit 0")
        return ""
    return alice("sh", "-c", command).stdout.strip()


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    forget_apps(APP)
    yield
    forget_apps(APP)


def written(url: str) -> dict[str, int]:
    """One more note everywhere; how many there are in each place."""
    status, body = curl(url + "/notes", "-X", "POST")
    assert status == 200, body
    return dict(json.loads(body))


def test_nothing_that_an_app_wrote_is_lost_by_a_deploy() -> None:
    """Seven ways of keeping a database, and a file of the bundle changed in place, over sleeps and deploys."""
    url = serve("1", page="old.html")
    assert set(written(url).values()) == {1}
    serve("1", fails=True)
    alice("flytectl", "app", "sleep", APP)
    assert set(written(url).values()) == {2}
    for number in range(2, 6):
        serve(str(number))
        found = json.loads(curl(url)[1])
        assert (found["version"], found["helper"], found["page"], found["program"]) == (str(number),) * 4
        assert found["pages"] == ["page.html"]
        assert found["byte_code"]
        assert set(written(url).values()) == {number + 1}, number
    assert Path(found["cwd"]) == STATE / "work"
    assert len([path for path in (STATE / "code").iterdir() if path.is_dir()]) == 2


def test_a_file_of_the_apps_own_in_the_way_of_a_deployed_one_is_said() -> None:
    """By serve, by app get and by the unit, for as long as that revision serves; not where there is none."""
    url = serve("1")
    assert answer("app", "get", APP)["notes"] == []
    written(url)
    done = alice("sh", "-c", "cd notes && echo '# 2' >> notes_app.py && flytectl serve notes_app.py")
    said = "the app's own files are used instead of the deployed ones: data/in_place.json, data/other.db, data/seed.db"
    assert f"note: {said}\n" in done.stderr
    assert answer("app", "get", APP)["notes"] == [said]
    assert f"  Note      {said}\n" in alice("flytectl", "app", "get", APP).stdout
    alice("flytectl", "app", "sleep", APP)
    assert curl(url)[0] == 200
    assert answer("app", "get", APP)["notes"] == [said]
    status = alice("systemctl", "show", "-P", "StatusText", f"flyted-app-{APP}-r2-0.service").stdout
    assert status.strip().endswith(said)


def test_a_draining_revision_and_one_that_goes_on_keep_their_files() -> None:
    """Modules that are imported late, pages and programs are those of the revision that runs."""
    url = serve("1", page="old.html")

    async def drained() -> dict[str, str]:
        slow = asyncio.create_task(asyncio.to_thread(curl, url + "/slow"))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(serve, "2")
        assert json.loads((await asyncio.to_thread(curl, url))[1])["version"] == "2"
        return dict(json.loads((await slow)[1]))

    found = asyncio.run(drained())
    assert (found["version"], found["helper"], found["page"], found["program"]) == ("1",) * 4
    serve("3", page="tried.html", fails=True)
    for pages in (["page.html", "tried.html"], ["page.html"]):  # what was tried is gone with the next start
        found = json.loads(curl(url)[1])
        assert (found["version"], found["helper"], found["page"], found["program"]) == ("2",) * 4
        assert found["pages"] == pages
        alice("flytectl", "app", "sleep", APP)
        curl(url)


def test_what_an_app_keeps_is_shown_and_deleted_when_asked_for() -> None:
    """Where it is and how much, for a person and a program; the question; what was kept for the next app."""
    url = serve("1")
    assert set(written(url).values()) == {1}
    data = answer("app", "get", APP)["data"]
    assert data["folder"] == str(STATE)
    assert data["complete"] is True
    assert data["files"] >= 5
    assert data["bytes"] >= 5 * 8192
    assert f", {STATE}" in alice("flytectl", "app", "get", APP).stdout
    assert f"flytectl app delete --yes {APP}" in refused("flytectl", "app", "delete", APP, status=2)
    said = asked("n", f"flytectl app delete --data {APP}")
    assert f"files, {STATE}" in said
    assert "1 revision" in said
    assert "nothing was deleted" in said
    assert set(written(url).values()) == {2}
    assert "deleted; its data is kept" in asked("y", f"flytectl app delete {APP}")
    assert curl(url)[0] == 421
    assert (STATE / "work" / "notes.db").is_file()
    assert set(written(serve("2")).values()) == {3}
    alice("flytectl", "app", "delete", "--yes", APP)
    assert "its data is kept: flytectl data ls" in refused("flytectl", "app", "delete", "--yes", APP, status=4)
    said = asked("y", f"flytectl app delete --data {APP}")
    assert "left from a deleted app" in said
    assert not STATE.exists()
    refused("flytectl", "app", "delete", "--yes", "--data", APP, status=4)


def test_data_that_cannot_be_deleted_is_told_and_stays_the_apps() -> None:
    """Something of the operator's is mounted there, which systemd leaves alone: the next app has to find no rest."""
    serve("1")
    mount = STATE / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mount], check=True)
    try:
        said = refused("flytectl", "app", "delete", "--yes", "--data", APP, status=9)
        assert f"not all of its data could be deleted: {STATE}\n" in said
        assert f"flyted-erase-{APP}.service" in said
        assert answer("app", "get", APP)["state"] == "stopped"
    finally:
        subprocess.run(["umount", mount], check=True)
    alice("flytectl", "app", "delete", "--yes", "--data", APP)
    assert not STATE.exists()


def test_who_uses_a_secret_is_shown_before_it_is_deleted() -> None:
    """And nobody is asked where there is no terminal."""
    alice("flytectl", "secret", "create", "DATA_KEY", "-", "--replace", typed="value")
    assert "flytectl secret delete --yes DATA_KEY" in refused("flytectl", "secret", "delete", "DATA_KEY", status=2)
    assert "no app uses it" in asked("n", "flytectl secret delete DATA_KEY")
    assert answer("secret", "get", "DATA_KEY")["apps"] == []
    assert "deleted" in asked("y", "flytectl secret delete DATA_KEY")


def asked(reply: str, command: str) -> str:
    """What alice's terminal shows when she answers the question of a command."""
    return by("alice", "script", "-qec", command, "/dev/null", typed=f"{reply}\n").stdout


def test_what_an_app_of_the_first_version_wrote_is_moved_at_its_next_start() -> None:
    """Its working folder was in the cache, one per bundle. The app sleeps over the upgrade."""
    url = serve("1")
    alice("flytectl", "app", "sleep", APP)
    owner = (STATE / "work").stat()
    old = Path(f"/var/cache/private/flyted-app-{APP}/code") / ("0" * 64)
    old.mkdir(parents=True)
    (old / "old.db").write_text("milk")
    for path in (old.parent, old, old / "old.db"):
        os.chown(path, owner.st_uid, owner.st_gid)
    assert curl(url)[0] == 200
    assert (STATE / "work" / "old.db").read_text() == "milk"
    assert not old.parent.exists()
