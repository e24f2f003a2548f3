"""Volumes: an operator's folders in apps of both kinds, who may write, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit import small
from tests.machine.kit.doer import SOURCE, do
from tests.machine.kit.users import alice, answer, by, curl, forget_apps, give, refused, serve, serving

NAME, GROUP = "vol", "flyted-vol-vol"
DIR = Path("/srv/volumes-test")


def sh(command: str) -> None:
    subprocess.run(["sh", "-ec", command], check=True)


@pytest.fixture(autouse=True)
def _folder() -> Iterator[None]:
    """A folder of alice's with a file in it, which everybody may read; neither a volume nor a group."""

    def forget() -> None:
        forget_apps("volumes-")
        by("root", "flytectl", "volume", "rm", NAME)
        subprocess.run(["umount", "-q", DIR], check=False)
        shutil.rmtree(DIR, ignore_errors=True)
        subprocess.run(["groupdel", GROUP], check=False, capture_output=True)

    forget()
    DIR.mkdir()
    (DIR / "page").write_text("hello")
    sh(f"chown -R alice:alice {DIR}; chmod -R u=rwX,go=rX {DIR}")
    yield
    forget()


def add(*more: str) -> None:
    alice("sudo", "flytectl", "volume", "add", NAME, str(DIR), *more)


def app(name: str, *flags: str) -> str:
    return serve(give(f"volumes/{name.replace('-', '_')}.py", SOURCE.format(app=name, disk="")), *flags)


def shared() -> None:
    """What the hint says."""
    sh(f"groupadd --system {GROUP}; chgrp -R {GROUP} {DIR}; chmod -R g+rwX,o= {DIR}")
    sh(f"find {DIR} -type d -exec chmod g+s {{}} +")


def test_an_app_reads_a_volume_where_it_asks_for_it() -> None:
    """At a path that the machine does not have, of which none is made; read-only, whatever the app tries."""
    add("--ro")
    file = give("volumes/a.py", SOURCE.format(app="volumes-a", disk=""))
    said = alice(*serving("--volume", f"{NAME}:/mnt/photos/here:ro", file))
    assert f"note: volume {NAME} is {DIR}, at /mnt/photos/here, read-only\n" in said.stderr
    url = said.stdout.strip()
    tried = (
        "page = open('/mnt/photos/here/page').read(); work = os.path.isdir('/usr/lib') and os.path.isdir('/etc')\n"
        "try: open('/mnt/photos/here/x', 'w')\n"
        "except OSError as error: why = error.strerror\n"
        "try: os.mkdir('/x')\n"
        "except OSError as error: root = error.strerror\n"
    )
    found = do(url, tried)
    assert (found["page"], found["work"], found["why"], found["root"]) == (
        "hello", True, "Read-only file system", "Read-only file system",
    )  # fmt: skip
    assert not Path("/mnt/photos").exists()
    ((volume),) = answer("volume", "ls")["volumes"]
    assert (volume["name"], volume["apps"], volume["problem"], volume["read_only"]) == (NAME, ["volumes-a"], "", True)
    assert f"volume '{NAME}' is used by volumes-a" in refused("sudo", "flytectl", "volume", "rm", NAME, status=5)
    alice("flytectl", "app", "sleep", "volumes-a")
    (DIR / "page").write_text("other")
    assert do(url, "page = open('/mnt/photos/here/page').read()") == {"page": "other"}
    app("volumes-a")
    assert do(url, "there = os.path.exists('/mnt/photos')") == {"there": False}
    alice("sudo", "flytectl", "volume", "rm", NAME)
    assert (DIR / "page").exists()


def test_apps_write_by_the_volumes_group() -> None:
    """Two apps and a user share what they make there; nobody else reads it. The hint is what makes it so."""
    said = refused("sudo", "flytectl", "volume", "add", NAME, str(DIR), status=2)
    assert f"apps may not write to '{DIR}': they do so as group {GROUP}" in said
    hint = said.split("hint: ", 1)[1].split("; or add", 1)[0]
    sh(hint.replace("sudo ", ""))
    add()
    one, two = (app(name, "--volume", f"{NAME}:/mnt/shared") for name in ("volumes-a", "volumes-b"))
    made = "open('/mnt/shared/new', 'w').write('a'); os.mkdir('/mnt/shared/sub'); open('/mnt/shared/sub/x', 'w')"
    do(one, made)
    assert do(
        two,
        "a = open('/mnt/shared/new').read(); open('/mnt/shared/new', 'a').write('b'); os.unlink('/mnt/shared/sub/x')",
    ) == {"a": "a"}
    assert do(one, "a = open('/mnt/shared/new').read()") == {"a": "ab"}
    about = (DIR / "new").stat()
    assert (about.st_mode & 0o007, (DIR / "sub").stat().st_mode & 0o2070, (DIR / "new").group()) == (0, 0o2070, GROUP)
    assert by("mallory", "cat", str(DIR / "new")).returncode != 0
    assert do(one, "groups = sorted(os.getgroups()); uid = os.getuid()")["uid"] != do(two, "uid = os.getuid()")["uid"]
    assert "may only read" not in alice(*serving("--volume", f"{NAME}:/mnt/shared:ro", "volumes/volumes_a.py")).stderr
    assert do(one, "try: open('/mnt/shared/y', 'w')\nexcept OSError as error: why = error.strerror") == {
        "why": "Read-only file system"
    }


def test_an_app_in_the_root_of_its_image_has_volumes_too() -> None:
    """At a folder that the image has, and in place of what is in it."""
    shared()
    add()
    file = small.app("volumes-root", "RUN echo image > /www/page")
    url = serve(file, "--volume", f"{NAME}:/www")
    assert curl(f"{url}/page") == (200, "hello")
    link = small.app("volumes-link", "RUN /bin/busybox ln -s /usr/lib/flyted/host/share /away")
    said = refused(*serving("--volume", f"{NAME}:/away/made", link), status=2)
    assert "/away of the image is no folder" in said
    assert not Path("/usr/share/made").exists()
    away = small.app("volumes-away", "RUN /bin/busybox ln -s /usr/lib/flyted/host/share /away", "VOLUME /away/made")
    assert "/away/made in it is a link to" in refused(*serving(away), status=2)
    assert not Path("/usr/share/made").exists()


def test_what_is_no_volume_is_refused_with_a_clear_word() -> None:
    """Names, paths, folders, modes and callers."""
    (DIR.parent / "volumes-link").unlink(missing_ok=True)
    (DIR.parent / "volumes-link").symlink_to(DIR)
    sh("mkdir -p /srv/volumes-open/x; chmod 1777 /srv/volumes-open; touch /srv/volumes-file")
    bad = {
        "/etc": "is the system's", "/proc": "is the system's", "/": "is not an absolute path",
        "/var/lib": "is the system's",
        "/var/lib/private/flyted-app-x": "is the system's", "/var/lib/flyted": "is the system's",
        "/tmp": "is the system's",
        "/srv/missing": "No such file", "/srv/volumes-link": "is a link", "/home/alice/x": "is the system's",
        "/srv/volumes-open/x": "others than root", "/srv/volumes-file": "is not a folder",
    }  # fmt: skip
    for folder, why in bad.items():
        assert why in refused("sudo", "flytectl", "volume", "add", NAME, folder, "--ro", status=2), folder
    (DIR.parent / "volumes-link").unlink()
    sh("rm -r /srv/volumes-open /srv/volumes-file")
    for name in ("../x", "A", "x" * 30, "-x"):
        assert by("root", "flytectl", "volume", "add", "--", name, str(DIR)).returncode == 2
    assert "volume.add requires root" in refused("flytectl", "volume", "add", NAME, str(DIR), "--ro", status=6)
    assert answer("volume", "ls")["volumes"] == []
    file = give("volumes/a.py", SOURCE.format(app="volumes-a", disk=""))
    assert f"there is no volume '{NAME}'" in refused(*serving("--volume", f"{NAME}:/mnt/x", file), status=4)
    add("--ro")
    assert f"may only read volume '{NAME}'" in refused(*serving("--volume", f"{NAME}:/mnt/x", file), status=2)
    for path in ("/etc/x", "/usr", "/data/x", "/proc", "/mnt/../etc", "mnt", "/mnt", "/photos", "/home/x", "/srv/x"):
        refused(*serving("--volume", f"{NAME}:{path}:ro", file), status=2)
    assert "volume.remove requires root" in refused("flytectl", "volume", "rm", NAME, status=6)


def test_a_folder_that_is_gone_when_an_app_starts_is_said() -> None:
    """By the start, by the list, and by the next deploy; when it is back, so is the app."""
    add("--ro")
    url = app("volumes-a", "--volume", f"{NAME}:/mnt/x:ro")
    alice("flytectl", "app", "stop", "volumes-a")
    DIR.rename(DIR.with_suffix(".aside"))
    try:
        said = refused("flytectl", "app", "start", "volumes-a", status=8)
        assert f"volume '{NAME}' is not there: this machine has no folder {DIR}" in said
        assert "No such file" in answer("volume", "ls")["volumes"][0]["problem"]
        assert "No such file" in refused(*serving("--volume", f"{NAME}:/mnt/x:ro", "volumes/volumes_a.py"), status=2)
    finally:
        DIR.with_suffix(".aside").rename(DIR)
    alice("flytectl", "app", "start", "volumes-a")
    assert do(url, "page = open('/mnt/x/page').read()") == {"page": "hello"}


def test_a_group_that_is_gone_when_an_app_starts_is_said() -> None:
    """PID 1 knows it by its name."""
    shared()
    add()
    app("volumes-a", "--volume", f"{NAME}:/mnt/x")
    alice("flytectl", "app", "stop", "volumes-a")
    sh(f"groupdel {GROUP}")
    assert "a group that it needs does not exist" in refused("flytectl", "app", "start", "volumes-a", status=8)
    assert json.dumps(answer("volume", "ls")["volumes"][0]["problem"]).count("may not")


def test_a_volume_in_the_place_of_data_and_a_disk_of_its_own() -> None:
    """What is mounted at the folder is what the app sees."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", DIR], check=True)
    (DIR / "disk").write_text("yes")
    add("--ro")
    url = app("volumes-a", "--volume", f"{NAME}:/data:ro")
    assert do(url, "a = os.listdir('/data'); open(os.environ['HOME'] + '/x', 'w').write('x')") == {"a": ["disk"]}
    assert Path("/var/lib/private/flyted-app-volumes-a/x").exists()


def test_data_in_the_root_of_an_image_is_the_apps_unless_the_image_has_files_there() -> None:
    """A VOLUME is not in memory any more; what an image ships stays in sight, and that is said."""
    link = "RUN /bin/busybox ln -s /data /www/data"
    empty = small.app("volumes-empty", "RUN /bin/busybox mkdir /data", "VOLUME /data", link)
    done = alice(*serving(empty))
    assert "files in /data" not in done.stderr
    assert "can write to /data" not in done.stderr
    page = Path("/var/lib/private/flyted-app-volumes-empty/page")
    page.write_text("kept")
    page.chmod(0o644)
    url = done.stdout.strip()
    assert curl(f"{url}/data/page") == (200, "kept")
    alice("flytectl", "app", "sleep", "volumes-empty")
    assert curl(f"{url}/data/page") == (200, "kept")
    shipped = small.app("volumes-shipped", "RUN /bin/busybox mkdir /data", "RUN echo shipped > /data/page", link)
    done = alice(*serving(shipped))
    assert "the image has files in /data, which the app sees there: its own data is in $HOME" in done.stderr
    assert curl(f"{done.stdout.strip()}/data/page") == (200, "shipped\n")
