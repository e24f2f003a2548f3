"""An app's process ends without Python's teardown, and nothing that could be seen outside of it is lost by that."""

from __future__ import annotations

import gzip
import os
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.launch.harness import ROOT

pytestmark = pytest.mark.slow

PYTHON = os.environ.get("FLYTED_LAUNCH_PYTHON", sys.executable)
APP = """
import atexit, concurrent.futures, contextlib, ctypes, gzip, os, sqlite3, sys, tempfile, threading, time, zipfile

def say(text):
    os.write(1, text.encode() + b" ")

class Finalized:
    def __init__(self, name, cycle=False):
        self.name = name
        self.self = self if cycle else None
    def __del__(self):
        say(self.name)

class Broken:
    def __del__(self):
        raise RuntimeError("whatever")

@contextlib.contextmanager
def context():
    try:
        yield
    finally:
        say("left")

text = open("text", "w"); text.write("buffered")
raw = open("binary", "wb"); raw.write(b"buffered")
zipped = gzip.open("zipped.gz", "wb"); zipped.write(b"hello")
archive = zipfile.ZipFile("archive.zip", "w"); archive.writestr("name", "content")
temporary = tempfile.NamedTemporaryFile(dir=".", suffix=".temporary")
folder = tempfile.TemporaryDirectory(dir=".", suffix=".temporary")
database = sqlite3.connect("database")
database.execute("PRAGMA journal_mode = WAL"); database.execute("CREATE TABLE t (x)"); database.commit()
broken, plain, cycle = Broken(), Finalized("global"), Finalized("cycle", cycle=True)
held = context(); held.__enter__()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
libc.fputs.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
libc.fputs(b"of C", libc.fopen(b"stdio", b"w"))
atexit.register(say, "first registered")
atexit.register(say, "last registered")
threading.Thread(target=lambda: (time.sleep(0.2), say("thread"))).start()
pool = concurrent.futures.ThreadPoolExecutor()
pool.submit(lambda: (time.sleep(0.3), say("pool")))
def forever():
    while True:
        sum(range(1000))
threading.Thread(target=forever, daemon=True).start()
sys.stdout.write("bye ")
"""
QUICK = "import sys\nsys.path.insert(0, {root!r})\nfrom flyted.launch.end import leave\n{body}\nleave({status})\n"


def run(folder: Path, body: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """A program that ends so."""
    program = folder / "program.py"
    program.write_text(QUICK.format(root=str(ROOT), body=textwrap.dedent(body), status=status))
    return subprocess.run(
        [PYTHON, "-B", str(program)], cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )


def test_nothing_is_lost(tmp_path: Path) -> None:
    """Threads end, registered functions and finalizers run; data is on disk, temporary files are not."""
    done = run(tmp_path, APP, 3)
    assert done.returncode == 3
    words = done.stdout.split()
    words.remove("bye")
    assert " ".join(words[:6]) == "thread pool last registered first registered", "as Python does it"
    assert sorted(words[6:]) == ["cycle", "global", "left"]
    assert (tmp_path / "text").read_text() == "buffered"
    assert (tmp_path / "binary").read_bytes() == b"buffered"
    assert gzip.decompress((tmp_path / "zipped.gz").read_bytes()) == b"hello"
    assert subprocess.run([PYTHON, "-m", "zipfile", "-t", "archive.zip"], cwd=tmp_path, check=False).returncode == 0
    assert not list(tmp_path.glob("*.temporary"))
    assert not (tmp_path / "database-wal").exists()
    assert sqlite3.connect(tmp_path / "database").execute("SELECT * FROM t").fetchall() == []
    assert (tmp_path / "stdio").read_text() == "of C", "handlers of C run"


def test_each_object_ends_as_python_ends_it(tmp_path: Path) -> None:
    """By the finalizer of its class, whatever its name is; SQLite's connections, derived ones too, are closed."""
    done = run(
        tmp_path,
        """
        import io, os, sqlite3
        def say(text):
            os.write(1, text.encode() + b" ")
        class Connection:
            def __del__(self): say("connection")
            def close(self): say("closed")
        class Stream(io.BufferedIOBase):
            def __del__(self): say("stream")
            def close(self): say("closed")
        class Raw(io.RawIOBase):
            def __del__(self): say("raw")
            def close(self): say("closed")
        class Plain(io.BufferedIOBase):
            def close(self): say("plain"); super().close()
        class Own(sqlite3.Connection): pass
        class Finalized(sqlite3.Connection):
            def __del__(self): self.execute("INSERT INTO t VALUES (1)"); self.commit()
        kept = Connection(), Stream(), Raw(), Plain()
        databases = sqlite3.connect("a", factory=Own), sqlite3.connect("b", factory=Finalized)
        for database in databases:
            database.execute("PRAGMA journal_mode = WAL"); database.execute("CREATE TABLE t (x)"); database.commit()
        """,
    )
    assert sorted(done.stdout.split()) == ["connection", "plain", "raw", "stream"]
    assert not list(tmp_path.glob("*-wal"))
    assert sqlite3.connect(tmp_path / "b").execute("SELECT * FROM t").fetchall() == [(1,)]


@pytest.mark.parametrize("status", [0, 1, 78, 255])
def test_the_status_is_as_given(tmp_path: Path, status: int) -> None:
    """systemd, and whoever reads why an app ended, sees the app's own."""
    assert run(tmp_path, "", status).returncode == status


def test_a_registered_function_that_fails_is_told_and_ends_nothing(tmp_path: Path) -> None:
    """As Python tells it, and the others run."""
    done = run(tmp_path, "import atexit\natexit.register(print, 'other')\natexit.register(lambda: 1 / 0)")
    assert (done.returncode, done.stdout) == (0, "other\n")
    assert "ZeroDivisionError" in done.stderr


def test_what_an_app_has_frozen_is_ended_too(tmp_path: Path) -> None:
    """gc.freeze() hides objects from the one who goes through them."""
    run(tmp_path, "import gc\nfile = open('text', 'w')\nfile.write('buffered')\ngc.freeze()")
    assert (tmp_path / "text").read_text() == "buffered"


def test_the_interpreter_is_not_taken_apart(tmp_path: Path) -> None:
    """A type whose objects only Python's own teardown would end: its weak reference's callback is not called."""
    done = run(
        tmp_path,
        """
        import weakref, sys
        class Thing: pass
        thing = Thing(); thing.self = thing
        watcher = weakref.ref(thing, lambda _: print("taken apart"))
        """,
    )
    assert done.stdout == ""
