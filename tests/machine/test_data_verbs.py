"""What apps keep: listed, exported, imported and removed by their operator; what hostile archives and callers get."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine.kit.doer import SOURCE, do
from tests.machine.kit.users import alice, answer, by, forget_apps, give, refused, serve, until

APP, OTHER = "verbs-notes", "verbs-other"


def state(app: str = APP) -> Path:
    """The folder of an app's data."""
    return Path(f"/var/lib/private/flyted-app-{app}")


def served(app: str = APP, disk: str = "") -> str:
    """The URL of an app that does what it is sent."""
    more = f', disk="{disk}"' if disk else ""
    return serve(give(f"verbs/{app.replace('-', '_')}.py", SOURCE.format(app=app, disk=more)))


def listed() -> dict[str, Any]:
    """The app's row in the list, once its size is complete: on a busy machine a size may take too long."""
    rows: list[dict[str, Any]] = []

    def is_complete() -> bool:
        rows[:] = [each for each in answer("data", "ls")["folders"] if each["name"] == APP]
        return len(rows) == 1 and rows[0]["complete"]

    until(is_complete)
    return rows[0]


def words(*more: str) -> list[str]:
    return ["flytectl", "data", *more]


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    def forget() -> None:
        forget_apps("verbs-")
        for name in filter(lambda name: state(name).exists(), (APP, OTHER, "verbs-new")):
            by("root", *words("rm", "--yes", name))
        for name in ("out.tar", "in.tar", "again.tar"):
            Path("/home/alice", name).unlink(missing_ok=True)

    forget()
    yield
    forget()


def archive(*entries: tuple[str, bytes, str]) -> str:
    """A file of alice's with an archive of entries: name, kind, content or target."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as made:
        for name, kind, text in entries:
            header = tarfile.TarInfo(name)
            header.type, header.mode = kind, 0o644
            header.size, header.linkname = (len(text), "") if kind == tarfile.REGTYPE else (0, text)
            made.addfile(header, io.BytesIO(text.encode()))
    path = Path("/home/alice/in.tar")
    path.write_bytes(written.getvalue())
    return str(path)


def test_home_state_and_data_are_one_folder_and_stay() -> None:
    """``/data``, ``$HOME``, ``$STATE_DIRECTORY``, and the working folder inside of it, over a sleep and a deploy."""
    url = served()
    places = do(
        url,
        "open('/data/a.txt', 'w').write('data'); open('b.txt', 'w').write('work')\n"
        "home, state, work = os.environ['HOME'], os.environ['STATE_DIRECTORY'], os.getcwd()\n"
        "same = [os.path.samefile(each, '/data') for each in (home, state, os.path.dirname(work))]",
    )
    assert places["same"] == [True, True, True], places
    alice("flytectl", "app", "sleep", APP)
    served(disk="1Gi")
    assert do(url, "a, b = open('/data/a.txt').read(), open('b.txt').read()") == {"a": "data", "b": "work"}
    assert (state() / "a.txt").read_text() == "data"
    assert alice(*words("path", APP)).stdout == f"{state()}\n"
    assert refused(*words("path", "verbs-new"), status=4)
    assert not [each for each in Path("/data").iterdir() if each.name != "lost+found"]


def test_data_goes_out_and_into_another_app() -> None:
    """Names, times to the nanosecond, holes, links, modes; the other app's user owns it and goes on with it."""
    url = served()
    do(
        url,
        "db = sqlite3.connect('notes.db'); db.execute('CREATE TABLE n (t)')\n"
        "db.execute(\"INSERT INTO n VALUES ('milk')\"); db.commit(); db.close(); del db\n"
        "open('ünï ☃', 'w').write('x'); os.symlink('notes.db', 'link'); os.mkdir('/data/sub')\n"
        "f = os.open('/data/sub/holes', os.O_WRONLY | os.O_CREAT); os.pwrite(f, b'end', 10 << 30); os.close(f)\n"
        "os.chmod('link', 0o640); os.utime('notes.db', ns=(1, 1600000000123456789))\n",
    )
    said = alice(*words("export", APP, "out.tar")).stderr
    assert f"{APP}: 3 files, 10.0 GiB, exported\n" in said
    out = Path("/home/alice/out.tar")
    assert (out.stat().st_size < 1 << 20, out.stat().st_mode & 0o777, out.owner()) == (True, 0o600, "alice")
    with tarfile.open(out) as made:
        assert not [name for name in made.getnames() if name.startswith(("code", "/")) or name.endswith(".py")]
    assert "exists already" in refused(*words("export", APP, "out.tar"), status=5)
    other = served(OTHER)
    alice("flytectl", "app", "stop", OTHER)
    assert f"{OTHER}: 3 files" in alice(*words("import", OTHER, "--yes", "out.tar")).stderr
    alice("flytectl", "app", "start", OTHER)
    found = do(
        other,
        "db = sqlite3.connect('notes.db'); rows = db.execute('SELECT t FROM n').fetchall()\n"
        "db.execute(\"INSERT INTO n VALUES ('tea')\"); db.commit(); db.close(); del db\n"
        "mine = [os.stat(each).st_uid == os.getuid() for each in ('notes.db', '/data/sub', 'ünï ☃')]\n"
        "time, mode, link = os.stat('ünï ☃').st_mtime_ns, os.stat('notes.db').st_mode & 0o777, os.readlink('link')\n"
        "holes = os.stat('/data/sub/holes'); holes = [holes.st_size, holes.st_blocks < 100]",
    )
    assert (found["rows"], found["mine"], found["mode"], found["link"], found["holes"]) == (
        [["milk"]], [True] * 3, 0o640, "notes.db", [(10 << 30) + 3, True],
    )  # fmt: skip
    assert found["time"] == (state() / "work" / "ünï ☃").stat().st_mtime_ns
    assert do(url, "rows = sqlite3.connect('notes.db').execute('SELECT t FROM n').fetchall()") == {"rows": [["milk"]]}


def test_streams_and_what_is_kept_of_deleted_apps() -> None:
    """Through a pipe and back; the list names it; the next app of the name takes it over; ``rm`` deletes it."""
    url = served()
    do(url, "open('a.txt', 'w').write('milk')")
    assert "is not stopped" in refused(*words("rm", "--yes", APP), status=5)
    assert "is not stopped" in refused(*words("import", "--yes", APP, archive()), status=5)
    alice("flytectl", "app", "delete", "--yes", APP)
    row = listed()
    assert (row["known"], row["owner"], row["files"], row["folder"]) == (False, "alice", 1, str(state()))
    assert row["deleted_at"]
    assert f"{APP} (deleted)" in alice(*words("ls")).stdout
    alice("sh", "-c", f"flytectl data export {APP} - | cat > again.tar && flytectl data rm --yes {APP}")
    assert not state().exists()
    assert APP not in [each["name"] for each in answer("data", "ls")["folders"]]
    alice("sh", "-c", f"cat again.tar | flytectl data import {APP} -")
    assert "verbs-notes (deleted)" in alice(*words("ls")).stdout
    url = served()
    assert do(url, "a = open('a.txt').read()") == {"a": "milk"}
    assert "standard input is not a terminal: nothing was deleted" in refused(*words("rm", APP), status=2)
    alice("flytectl", "app", "stop", APP)
    assert "standard input is not a terminal: nothing was imported" in refused(
        *words("import", APP, "again.tar"), status=2
    )
    said = by("alice", "script", "-qec", f"flytectl data import {APP} again.tar", "/dev/null", typed="n\n").stdout
    assert f"1 file, {state()}" in said
    assert "nothing was imported" in said


def test_only_root_and_who_deployed_an_app_read_or_replace_its_data() -> None:
    """Another member of the group is refused, and changes nothing; who is no member does not even reach flyted."""
    url = served()
    do(url, "open('a.txt', 'w').write('milk')")
    subprocess.run(["adduser", "--quiet", "mallory", "flyted"], check=True)
    try:
        home = Path("/home/mallory")
        said = refused(*words("export", APP, "x.tar"), status=6, user="mallory")
        assert f"app '{APP}' was deployed by alice: only that user and root may read or replace its data" in said
        assert list(home.glob("x.tar*")) == []
        alice("flytectl", "app", "stop", APP)
        Path("/home/mallory/in.tar").write_bytes(Path(archive(("work/a.txt", tarfile.REGTYPE, "tea"))).read_bytes())
        refused(*words("import", "--yes", APP, "in.tar"), status=6, user="mallory")
        assert (state() / "work" / "a.txt").read_text() == "milk"
    finally:
        subprocess.run(["deluser", "--quiet", "mallory", "flyted"], check=True)
    assert "only members of group 'flyted'" in refused(*words("ls"), status=6, user="mallory")
    done = subprocess.run(
        ["sh", "-c", f"cd /root && flytectl data export {APP} r.tar && tar tf r.tar && rm r.tar"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "work/a.txt" in done.stdout
    journal = subprocess.check_output(["journalctl", "-t", "flyted", "-n", "60", "-o", "cat"], text=True)
    assert f"data export: permission (app {APP}), by mallory" in journal
    assert f"data export: done (app {APP}), by root" in journal


HOSTILE = {
    "absolute": ("/etc/cron.d/evil", tarfile.REGTYPE, "x"),
    "climbs": ("work/../../../../etc/evil", tarfile.REGTYPE, "x"),
    "link": ("work/passwd", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": ("work/passwd", tarfile.LNKTYPE, "/etc/passwd"),
    "device": ("work/disk", tarfile.BLKTYPE, ""),
    "code": ("code/x", tarfile.REGTYPE, "x"),
}


def test_a_hostile_archive_changes_nothing() -> None:
    """Whatever is wrong with it: the data is as before, nothing is left behind, and the app starts as ever."""
    url = served()
    do(url, "open('a.txt', 'w').write('milk')")
    alice("flytectl", "app", "stop", APP)
    before = _tree(state())
    for entry in HOSTILE.values():
        said = refused(*words("import", "--yes", APP, archive(("work/ok", tarfile.REGTYPE, "tea"), entry)), status=2)
        assert "nothing was imported: " in said
        assert _tree(state()) == before
    assert "--skip-links" in refused(*words("import", "--yes", APP, archive(HOSTILE["link"])), status=2)
    bomb = tarfile.TarInfo("work/bomb")
    bomb.size = 1 << 50
    Path("/home/alice/in.tar").write_bytes(bomb.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    assert "there is no room for it" in refused(*words("import", "--yes", APP, "in.tar"), status=2)
    for content in (
        b"",
        b"no archive" * 100,
        Path(archive(("work/b", tarfile.REGTYPE, "b" * 5000))).read_bytes()[:4000],
    ):
        Path("/home/alice/in.tar").write_bytes(content)
        refused(*words("import", "--yes", APP, "in.tar"), status=2)
    assert "cannot be read" in refused(*words("import", "--yes", APP, "missing.tar"), status=2)
    assert _tree(state()) == before
    alice("flytectl", "app", "start", APP)
    assert do(url, "a = open('a.txt').read()") == {"a": "milk"}


CHURN = """
import os, random
while True:
    for number in range(300):
        with open(f"f{number}", "wb") as file:
            file.write(bytes(random.randrange(200_000)))
        if random.random() < 0.3:
            os.unlink(f"f{number}")
"""


def test_an_export_while_the_app_writes_and_one_whose_reader_leaves() -> None:
    """What changes is said; a reader that leaves ends the unit, and no lock is left."""
    url = served()
    do(url, f"__import__('subprocess').Popen(['python3', '-c', {CHURN!r}])")
    for _ in range(3):
        alice("rm", "-f", "out.tar")
        alice(*words("export", APP, "out.tar"))
        with tarfile.open("/home/alice/out.tar") as made:
            assert [each for each in made.getmembers() if each.name.startswith("work/f")]
    alice("sh", "-c", f"flytectl data export {APP} - | head -c 1000 > out.tar; true")
    alice("rm", "-f", "out.tar")
    alice(*words("export", APP, "out.tar"))
    left = subprocess.run(
        ["systemctl", "list-units", "--plain", "--no-legend", "flyted-export-*"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert left.stdout == ""


def test_a_folder_of_another_owner_is_the_apps_and_a_link_in_its_place_is_refused() -> None:
    """PID 1 gives the folder to the app's user; it does not follow a link that root has put there."""
    url = served()
    do(url, "open('a.txt', 'w').write('milk')")
    alice("flytectl", "app", "stop", APP)
    subprocess.run(["chown", "-R", "alice:alice", state()], check=True)
    alice("flytectl", "app", "start", APP)
    assert do(url, "a = open('a.txt').read(); mine = os.stat('/data').st_uid == os.getuid()") == {
        "a": "milk",
        "mine": True,
    }
    alice("flytectl", "app", "stop", APP)
    victim = Path("/srv/verbs-victim")
    victim.mkdir(exist_ok=True)
    (victim / "file").write_text("root's")
    state().rename(state().with_suffix(".aside"))
    state().symlink_to(victim)
    try:
        for command in (words("export", APP, "out.tar"), ["flytectl", "app", "start", APP]):
            assert by("alice", *command).returncode != 0
        assert by("alice", *words("import", "--yes", APP, archive(("work/x", tarfile.REGTYPE, "x")))).returncode != 0
        assert ((victim / "file").stat().st_uid, [each.name for each in victim.iterdir()]) == (0, ["file"])
    finally:
        state().unlink()
        state().with_suffix(".aside").rename(state())


def test_a_full_disk_refuses_an_import_and_lets_data_out() -> None:
    """The folder is on a disk of its own, with no room on it."""
    served()
    alice("flytectl", "app", "delete", "--yes", "--data", APP)
    state().mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", state()], check=True)
    try:
        url = served()
        do(url, "open('a.txt', 'wb').write(bytes(5 << 20))")
        said = alice(*words("export", APP, "out.tar")).stderr
        assert "5.0 MiB" in said
        alice("flytectl", "app", "stop", APP)
        assert "there is no room for it" in refused(*words("import", "--yes", APP, "out.tar"), status=2)
        assert (state() / "work" / "a.txt").stat().st_size == 5 << 20
        assert not list(state().glob(".flyted-import"))
        alice("flytectl", "app", "start", APP)
    finally:
        by("alice", "flytectl", "app", "stop", APP)
        subprocess.run(["umount", state()], check=True)


def test_more_than_resources_disk_is_said() -> None:
    """When the app has come to rest; the list has both figures."""
    url = served(disk="1Mi")
    do(url, "open('a.txt', 'wb').write(bytes(3 << 20))")
    alice("flytectl", "app", "sleep", APP)

    def noted() -> bool:
        return any("more than the 1.0 MiB of resources.disk" in note for note in answer("app", "get", APP)["notes"])

    until(noted)
    assert "3.0 MiB of 1.0 MiB" in alice(*words("ls")).stdout
    do(url, "os.unlink('a.txt')")
    alice("flytectl", "app", "sleep", APP)
    until(lambda: not noted())


def _tree(top: Path) -> dict[str, tuple[int, int, int, str]]:
    """Every file: owner, mode, time, content or target."""
    found = {}
    for path in sorted(top.rglob("*")):
        about = path.lstat()
        text = str(path.readlink()) if path.is_symlink() else ""
        text = path.read_text(errors="replace") if path.is_file() and not text else text
        found[str(path.relative_to(top))] = about.st_uid, about.st_mode, about.st_mtime_ns, text
    return found
