"""Root never imports a user's file, and never opens a path for a user: the drop, and the attacks on it."""

from __future__ import annotations

import json
import os
import pwd
import sys
import tempfile
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from flytectl import identity, load, pythons
from flyted.contract.errors import FlytedError, InvalidInput, PermissionRefused
from tests.flytectl.loading import FASTAPI, caller, needs_sdk, write

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from collections.abc import Iterator


NOBODY = pwd.getpwnam("nobody")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to stop being it")
system_python = pytest.mark.skipif(
    not Path(f"/usr/bin/python3.{sys.version_info[1]}").exists(),
    reason="needs the distribution's Python in the version that has the SDK here: nobody may not run others",
)


@pytest.fixture
def as_root(monkeypatch):
    """The rules for root, also when the tests run as somebody else."""
    monkeypatch.setattr(os, "getresuid", lambda: (0, 0, 0))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach: pytest's own is for its user only."""
    with tempfile.TemporaryDirectory(prefix="flytectl-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def bundled(monkeypatch, tmp_path_factory):
    """The installed tree's SDK: the packages of the Python that runs the tests."""
    import flyte

    place = Path(tempfile.mkdtemp(prefix="flytectl-sdk-"))
    place.chmod(0o755)
    (place / "sdk").symlink_to(Path(flyte.__file__).parent.parent)
    monkeypatch.setattr(pythons, "INSTALLED", place)
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "SUDO_UID", "SUDO_GID", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)
    yield
    (place / "sdk").unlink()
    place.rmdir()


def test_plain_root_is_refused(as_root):
    """Root without a user behind it: refused, with what to type."""
    with pytest.raises(PermissionRefused, match="never imported as root") as caught:
        identity.to_become(None, {})
    assert "--as USER" in caught.value.hint


@pytest.mark.parametrize("environ", [{"SUDO_UID": "0"}, {"SUDO_UID": ""}])
def test_root_behind_sudo_is_still_root(as_root, environ):
    """`sudo -s` as root sets SUDO_UID=0: no user to drop to."""
    with pytest.raises(PermissionRefused):
        identity.to_become(None, environ)


@pytest.mark.parametrize("name", ["root", "0", "no-such-user-here", "99999999999999999999", "\uff14\uff12", "-1", ""])
def test_nobody_else_is_taken_for_a_user(as_root, name):
    """--as root, names and numbers that do not exist, digits of other scripts: refused."""
    with pytest.raises(InvalidInput):
        identity.to_become(name, {})


@pytest.mark.parametrize("value", ["4294967295", "x; id", "12345678"])
def test_a_broken_sudo_uid_is_refused(as_root, value):
    """The variable is set by sudo; what it cannot have set is no reason to guess."""
    with pytest.raises(InvalidInput, match="SUDO_UID"):
        identity.to_become(None, {"SUDO_UID": value})


def test_sudo_gives_back_the_caller(as_root):
    """SUDO_UID names the user; groups come from the user database, without root's."""
    become = identity.to_become(None, {"SUDO_UID": str(NOBODY.pw_uid), "SUDO_GID": "0"})
    assert become is not None
    assert (become.name, become.uid, become.gid) == ("nobody", NOBODY.pw_uid, NOBODY.pw_gid)
    assert 0 not in become.groups


def test_an_ordinary_caller_stays_who_they_are(monkeypatch):
    """No drop, and --as is not a way to become somebody else."""
    monkeypatch.setattr(os, "getresuid", lambda: (1000, 1000, 1000))
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY.pw_uid)
    assert identity.to_become(None, {"SUDO_UID": "0"}) is None
    assert identity.to_become("nobody", {}) is None
    with pytest.raises(InvalidInput, match="only root"):
        identity.to_become("root", {})


def test_a_set_uid_program_counts_as_root(monkeypatch):
    """Any of the three ids being 0 is root."""
    monkeypatch.setattr(os, "getresuid", lambda: (1000, 1000, 0))
    with pytest.raises(PermissionRefused):
        identity.to_become(None, {})


def test_of_roots_environment_only_the_harmless_is_kept():
    """Keys, proxies with passwords, search paths of root stay with root."""
    become = identity.Identity("u", 5, 5, (5,), "/home/u", "/bin/sh")
    roots = {"AWS_SECRET_ACCESS_KEY": "x", "PYTHONPATH": "/root/lib", "LD_PRELOAD": "/x", "PATH": "/root/bin"}
    roots |= {"LANG": "C.UTF-8", "LC_ALL": "C", "VIRTUAL_ENV": "/home/u/v", "HOME": "/root"}
    assert become.environment(roots) == {
        "LANG": "C.UTF-8",
        "LC_ALL": "C",
        "VIRTUAL_ENV": "/home/u/v",
        "HOME": "/home/u",
        "USER": "u",
        "LOGNAME": "u",
        "SHELL": "/bin/sh",
        "PATH": identity.PATH,
    }


def test_becoming_a_user_always_leaves_roots_session():
    """One place says how a program is started as a user, and it takes the program away from root's terminal."""
    become = identity.Identity("u", 5, 5, (5,), "/home/u", "/bin/sh")
    assert become.drop()["start_new_session"] is True
    sources = Path(identity.__file__).parent.rglob("*.py")
    assert [each.name for each in sources if "extra_groups" in each.read_text()] == ["identity.py"]


REPORT = """
    import json, os, pathlib
    status = pathlib.Path("/proc/self/status").read_text()
    ids = {line.split(":")[0]: line.split(":")[1].split() for line in status.splitlines()}
    fds = {path.name: os.readlink(path) for path in pathlib.Path("/proc/self/fd").iterdir() if path.is_symlink()}
    print(json.dumps({"ids": {k: ids[k] for k in ("Uid", "Gid", "Groups", "CapEff", "CapPrm")},
                      "env": dict(os.environ), "fds": fds}))
"""


@root_only
@needs_sdk
@system_python
def test_the_file_runs_as_the_user_and_only_as_the_user(open_folder, bundled, monkeypatch, capfd):
    """All four uids and gids, all groups, no capability; a clean environment; no descriptor of root's."""
    monkeypatch.setenv("ROOTS_SECRET", "CANARY-OF-ROOT")
    file = write(open_folder, "app.py", REPORT + FASTAPI)
    held = os.open("/etc/shadow", os.O_RDONLY)
    try:
        with load.load(file, as_user="nobody") as loaded:
            assert loaded.apps[0].name == "hello"
    finally:
        os.close(held)
    seen = json.loads(capfd.readouterr().err)
    assert seen["ids"]["Uid"] == [str(NOBODY.pw_uid)] * 4
    assert seen["ids"]["Gid"] == [str(NOBODY.pw_gid)] * 4
    assert seen["ids"]["Groups"] == [str(NOBODY.pw_gid)]
    assert int(seen["ids"]["CapEff"][0], 16) == int(seen["ids"]["CapPrm"][0], 16) == 0
    assert seen["env"]["HOME"] == NOBODY.pw_dir
    assert "CANARY-OF-ROOT" not in seen["env"].values()
    assert not [target for target in seen["fds"].values() if target == "/etc/shadow"]


@root_only
@needs_sdk
@system_python
def test_under_sudo_the_caller_imports(open_folder, bundled, monkeypatch, capfd):
    """The same by SUDO_UID, without --as."""
    monkeypatch.setenv("SUDO_UID", str(NOBODY.pw_uid))
    with load.load(write(open_folder, "app.py", REPORT + FASTAPI)) as loaded:
        assert loaded.apps[0].name == "hello"
    assert json.loads(capfd.readouterr().err)["ids"]["Uid"][0] == str(NOBODY.pw_uid)


@pytest.fixture
def roots_file() -> Iterator[Path]:
    """A file that only root can read."""
    with tempfile.TemporaryDirectory(prefix="flytectl-root-") as folder:
        Path(folder).chmod(0o755)  # so that links into it resolve, and only the file itself is closed
        file = Path(folder) / "x.py"
        file.write_text("# /// script\n# dependencies = []\n# ///\nCANARY = 'CANARY-7f3a91'\n")
        file.chmod(0o600)
        yield file


def refused(file: Path) -> str:
    """What root, dropping to nobody, says about a file; never its content."""
    with pytest.raises(FlytedError) as caught:
        load.load(file, as_user="nobody")
    said = f"{caught.value.message} {caught.value.hint} {getattr(caught.value, 'traceback', '')}"
    assert "CANARY" not in said
    return said


@root_only
@needs_sdk
@system_python
def test_roots_files_are_not_read_for_a_user(open_folder, bundled, roots_file):
    """By name, by a link as the file, by a symbolic or hard link or a linked folder as include: all refused."""
    assert "cannot be read: Permission denied" in refused(roots_file)
    (open_folder / "app.py").symlink_to(roots_file)
    assert "Permission denied" in refused(open_folder / "app.py")
    (open_folder / "app.py").unlink()

    text = FASTAPI.replace("app=app", "app=app, include=('stolen.txt',)")
    file = write(open_folder, "app.py", text)
    (open_folder / "stolen.txt").symlink_to(roots_file)
    assert "outside the bundle root" in refused(file)
    (open_folder / "stolen.txt").unlink()
    (open_folder / "stolen.txt").symlink_to(roots_file.parent)
    assert "outside the bundle root" in refused(file)
    (open_folder / "stolen.txt").unlink()
    os.link(roots_file, open_folder / "stolen.txt")
    assert "for the code bundle: Permission denied" in refused(file)


@root_only
@needs_sdk
@system_python
def test_a_requirements_file_of_roots_is_not_read(open_folder, bundled, roots_file):
    """The text of requirement files travels in the answer: it is read by the user's process too."""
    text = (
        "import flyte, flyte.app\nfrom pathlib import Path\n"
        f"image = flyte.Image.from_debian_base().with_requirements(Path({str(roots_file)!r}))\n"
        "env = flyte.app.AppEnvironment(name='thief', args=['x'], image=image)\n"
    )
    assert "x.py" in refused(write(open_folder, "app.py", text))


@root_only
def test_the_script_block_is_looked_for_as_the_user(roots_file, monkeypatch):
    """Root would see the block in its own file; the user's eyes do not."""
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    become = identity.to_become("nobody", {})
    assert become is not None
    user = pythons.Caller(become, become.environment(os.environ))
    assert pythons.choose(roots_file, None, user).origin != "script"
    assert pythons._head(roots_file, user) == b""
    assert pythons._head(roots_file, caller()) != b""


@root_only
@needs_sdk
@system_python
def test_the_answer_is_copied_before_it_is_checked(open_folder, bundled):
    """A process that the file leaves behind keeps a descriptor of the answer: what it writes later changes nothing."""
    text = (
        "import os, time\n"
        "memory = [int(fd) for fd in os.listdir('/proc/self/fd') "
        "if os.path.realpath(f'/proc/self/fd/{fd}').startswith('/memfd:bundles')]\n"
        "assert len(memory) == 1\n"
        "if os.fork() == 0:\n"
        "    time.sleep(60)\n    os._exit(0)\n"
    )
    file = write(open_folder, "app.py", text + dedent(FASTAPI))
    with load.load(file, as_user="nobody") as loaded:
        (app,) = loaded.apps
        assert app.bundle_fd is not None
        assert len(os.pread(app.bundle_fd, 1 << 20, 0)) == os.fstat(app.bundle_fd).st_size
