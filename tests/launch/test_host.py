"""Programs of the machine in the root of an image, and what launch does when its Python is one of them."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flyted.launch import host, start, surroundings, volumes, workdir
from flyted.launch.options import parse
from flyted.launch.refused import Refused
from flyted.launch.words import HOST, host_command


def test_on_the_machine_a_program_is_where_it_is() -> None:
    """No root of an image is here."""
    assert not Path(HOST).exists()
    assert host.program("bin/sh") == ["/usr/bin/sh"]
    assert not host.runs_us()


@pytest.mark.skipif(not Path("/usr/lib/x86_64-linux-gnu").exists(), reason="Debian for x86_64 only")
@pytest.mark.parametrize("program", ["bin/python3", "lib/systemd/systemd-socket-proxyd"])
def test_the_words_start_a_program_whose_usr_is_elsewhere(program: str, tmp_path: Path) -> None:
    """By its own ld.so: also where /usr is a link, as here."""
    if not Path("/usr", program).exists():
        pytest.skip("not on this machine")
    (tmp_path / "usr").symlink_to("/usr")
    words = [word.replace(HOST, str(tmp_path / "usr")) for word in host_command(program, "x86_64")]
    done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(("Python 3", "systemd "))


def test_the_machines_python_is_not_the_apps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its folder is not in PATH, and it is not started anew for variables that count for the app alone."""
    monkeypatch.setattr(host, "runs_us", lambda: True)
    environ = {"PATH": "/opt/app/bin:/bin", "HOME": "/home/x"}
    surroundings.furnish(environ, str(tmp_path))
    assert environ["PATH"] == "/opt/app/bin:/bin"
    (tmp_path / "start").write_text('{"environment": {"LD_PRELOAD": "/none.so"}, "words": ["--quoted", "x"]}')
    monkeypatch.setattr(os, "execv", lambda *_words: sys.exit("started anew"))
    environ["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    assert start.words(["--app", "a", "--start", "start"], environ) == ["--app", "a", "--quoted", "x"]
    assert environ["LD_PRELOAD"] == "/none.so"


def test_the_working_folder_of_the_image_counts_without_a_bundle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Modules are looked for there first; with the app's code, after that."""
    monkeypatch.chdir(tmp_path)
    image = tmp_path / "app"
    environ = {"CACHE_DIRECTORY": str(tmp_path / "cache"), "STATE_DIRECTORY": str(tmp_path / "state")}
    with pytest.raises(Refused, match=r"the image's working folder .*/app cannot be entered: No such file"):
        workdir.enter(None, environ, str(image))
    image.mkdir()
    place = workdir.enter(None, environ, str(image))
    assert Path.cwd() == image
    assert place.folders() == [str(image), str(tmp_path / "state/work")]
    place.code = "/code"
    assert place.folders() == [str(tmp_path / "state/work"), "/code", str(image)]


def test_a_volume_is_filled_from_the_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With links as links; not what reading could block at, and not over what is there."""
    image, data, full = tmp_path / "image", tmp_path / "data", tmp_path / "full"
    below = Path(f"{image}{data}")
    (below / "sub").mkdir(parents=True)
    (below / "sub/file").write_text("text")
    (below / "link").symlink_to("/etc/passwd")
    os.mkfifo(below / "pipe")
    Path(f"{image}{full}").mkdir(parents=True)
    Path(f"{image}{full}", "new").touch()
    for folder in (data, full):
        folder.mkdir()
    (full / "old").touch()
    volumes.fill([str(data), str(full), str(tmp_path / "absent")], str(image))
    assert (data / "sub/file").read_text() == "text"
    assert (data / "link").readlink() == Path("/etc/passwd")
    assert sorted(each.name for each in data.iterdir()) == ["link", "sub"]
    assert [each.name for each in full.iterdir()] == ["old"]
    assert capsys.readouterr().err == ""


def test_what_cannot_be_stored_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app starts all the same."""
    data = tmp_path / "data"
    data.mkdir()
    below = Path(f"{tmp_path}/image{data}")
    below.mkdir(parents=True)
    (below / "file").touch()

    def full(_source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", target)

    monkeypatch.setattr(shutil.copytree, "__defaults__", (False, None, full, False, False))
    volumes.fill([str(data)], str(tmp_path / "image"))
    assert "1 files of the image cannot be read or stored, as 'file'" in capsys.readouterr().err


def test_the_options_are_read() -> None:
    """Quoted, as all texts are that come from an image."""
    options = parse(["--app", "a", "--workdir", "/a%25b", "--volume", "/v", "--volume", "/w", "--quoted", "x"])
    assert (options.workdir, options.volumes) == ("/a%b", ["/v", "/w"])
