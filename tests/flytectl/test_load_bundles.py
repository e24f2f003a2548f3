"""The bundles of the loader: which files are in them, and when two are the same."""

from __future__ import annotations

import fcntl
import gzip
import os
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from tests.flytectl.loading import FASTAPI, contents, load_file, load_for_real, needs_sdk, resolver, write

if TYPE_CHECKING:
    pass


pytestmark = [pytest.mark.slow, needs_sdk]


def test_a_changed_file_gives_another_bundle(tmp_path):
    """The counterpart: one comment more is another version."""
    file = write(tmp_path, "app.py", FASTAPI)
    with load_file(file) as first:
        file.write_text(file.read_text() + "# changed\n")
        with load_file(file) as second:
            assert first.apps[0].bundle_sha256 != second.apps[0].bundle_sha256
            assert first.apps[0].idl != second.apps[0].idl


def test_a_file_that_is_changed_within_a_second_is_read_anew(tmp_path, monkeypatch):
    """Size and second are what they were, so that Python would take the old bytecode; of its modules alike."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        helper = write(tmp_path, "helper.py", f"NAME = {name!r}")
        text = f"import helper\n{dedent(FASTAPI)}".replace('"hello"', f'f"{name}-{{helper.NAME}}"')
        file = write(tmp_path, "app.py", text)
        for path in (helper, file):
            os.utime(path, (1_700_000_000, 1_700_000_000))
        with load_for_real(file) as loaded:
            assert [app.name for app in loaded.apps] == [f"{name}-{name}"]


def test_the_bundle_is_sealed_and_has_no_clock_in_it(tmp_path):
    """Nobody can change the bytes whose digest was taken; the gzip header has neither time nor name."""
    with load_file(write(tmp_path, "app.py", FASTAPI)) as loaded:
        fd = loaded.apps[0].bundle_fd
        assert fd is not None
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        assert seals & fcntl.F_SEAL_WRITE
        data = os.pread(fd, 1 << 20, 0)
        assert data[3:8] == b"\0" * 5
        assert gzip.decompress(data)


def test_imported_modules_below_the_root_are_bundled(tmp_path, monkeypatch):
    """A sibling and a package are in; a module outside of the root and one that is not imported are not."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "service/__init__.py", "")
    write(tmp_path, "service/greeting.py", "WORD = 'hello'")
    write(tmp_path, "service/unused.py", "")
    write(tmp_path, "helper.py", "X = 1")
    file = write(tmp_path, "service/app.py", "import helper\nfrom .greeting import WORD\n" + dedent(FASTAPI))
    with load_file(file) as loaded:
        (app,) = loaded.apps
        assert set(contents(app)) == {"service/__init__.py", "service/app.py", "service/greeting.py", "helper.py"}
        assert resolver(app) == "service.app:env"
        assert loaded.root == str(tmp_path)


def test_include_below_a_folder_named_flyte(tmp_path):
    """The SDK takes such files for its own and would look for the include elsewhere."""
    write(tmp_path, "flyte/page.html", "<p>")
    file = write(tmp_path, "flyte/app.py", dedent(FASTAPI).replace("app=app", "app=app, include=['page.html']"))
    with load_for_real(file) as loaded:
        assert set(contents(loaded.apps[0])) == {"app.py", "page.html"}
