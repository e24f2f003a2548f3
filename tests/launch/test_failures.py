"""What a user reads when an app cannot start: one line of ours and status 78, or their own traceback and status 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flyted.launch.bound import BURST
from tests.launch.harness import App, Unit, app_bundle, bundle, fserve

pytestmark = pytest.mark.slow

Keep = Callable[[App], App]
MakeUnit = Callable[..., Unit]
VALUE = b"CANARY-7f3a91"


def refused(app: App) -> str:
    """The one line that launch says."""
    assert app.wait() == 78, app.err
    assert app.out == ""
    assert app.err.startswith("flyted: the app cannot start: ")
    assert app.err.count("\n") == 1
    assert "CANARY" not in app.err
    return app.err


def remove(unit: Unit) -> None:
    """The credential is missing."""
    (unit.folder / "credentials" / "s0").unlink()


def empty(unit: Unit) -> None:
    """What systemd makes of a socket that closes early."""
    (unit.folder / "credentials" / "s0").write_bytes(b"")


def cut(unit: Unit) -> None:
    """A value that lost its end."""
    (unit.folder / "credentials" / "s0").write_bytes(VALUE[:-1])


def swap(unit: Unit) -> None:
    """Another value of the same length."""
    (unit.folder / "credentials" / "s0").write_bytes(VALUE[::-1])


def no_sums(unit: Unit) -> None:
    """The checksums are missing."""
    (unit.folder / "credentials" / "sums").unlink()


def bad_sums(unit: Unit) -> None:
    """The checksums are no JSON."""
    (unit.folder / "credentials" / "sums").write_text("[1")


def odd_sums(unit: Unit) -> None:
    """The checksums are JSON of another shape."""
    (unit.folder / "credentials" / "sums").write_text(json.dumps({"s0": "abc"}))


def other_sums(unit: Unit) -> None:
    """The checksums are of another secret."""
    (unit.folder / "credentials" / "sums").write_text(json.dumps({"s1": [1, "00"]}))


def other_file(unit: Unit) -> None:
    """The file holds another value."""
    (unit.folder / "files" / "F").write_bytes(b"CANARY-other!")


def no_file(unit: Unit) -> None:
    """The file is not mounted."""
    (unit.folder / "files" / "F").unlink()


@pytest.mark.parametrize(
    ("target", "damage", "words"),
    [
        ("env:K", remove, "s0 did not arrive"),
        ("env:K", empty, "s0 is empty"),
        ("env:K", cut, "12 bytes arrived, not 13"),
        ("env:K", swap, "the value that arrived is not"),
        ("env:K", no_sums, "checksums) did not arrive"),
        ("env:K", bad_sums, "checksums) is damaged"),
        ("env:K", odd_sums, "checksums) is damaged"),
        ("env:K", other_sums, "no checksum for credential s0"),
        ("file:F", other_file, "holds another value than secret F"),
        ("file:F", no_file, "secret F is not at"),
    ],
)
def test_a_secret_that_did_not_arrive_whole_stops_the_start(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, target: str, damage: Callable[[Unit], None], words: str
) -> None:
    """systemd starts a unit with an empty credential and no error; an app must never run without its secret."""
    unit = make_unit(secrets={"s0": (target, VALUE)})
    options = unit.options(app_bundle(tmp_path, "slow.py"))
    damage(unit)
    line = refused(running(unit.start(None, ["uvicorn", "slow:app"], options=options)))
    assert words in line


@pytest.mark.parametrize(("value", "words"), [(b"CANARY\xff", "not UTF-8"), (b"CANARY\0", "NUL")])
def test_a_value_that_is_no_text_cannot_be_a_variable(
    make_unit: MakeUnit, running: Keep, value: bytes, words: str
) -> None:
    """A variable is text without NUL; the message says that a file would do."""
    unit = make_unit(secrets={"s0": ("env:K", value)})
    line = refused(running(unit.start(None, ["uvicorn", "x:y"])))
    assert words in line
    assert "as a file" in line


@pytest.mark.parametrize(
    ("files", "command", "words"),
    [
        ({"a.py": ""}, fserve("a:env"), "module a has no variable 'env'"),
        ({"a.py": "env = 1"}, fserve("a:env"), "neither a server function nor args"),
        ({"a.py": "env = 1"}, fserve("a:env", args=("$NOPE",)), "no secret or variable named 'NOPE'"),
        ({"a.py": "env = 1"}, fserve("a:env", args=("--x=${NOPE}",)), "no secret or variable named 'NOPE'"),
        ({"a.py": "env = 1"}, fserve("a:env", args=("no-such-program",)), "'no-such-program' is not in the image"),
        ({"a.py": ""}, fserve("a"), "is not MODULE:VARIABLE"),
        ({"a.py": ""}, fserve("a:env", options=("--new-option", "1")), "no option '--new-option'"),
        ({"a.py": ""}, ["fserve", "--resolver", "os.system", "--"], "resolver 'os.system' is not known"),
        ({"a.py": ""}, fserve("a:env", options=("--parameters", "!")), "--parameters cannot be read"),
        ({}, ["no-such-program"], "'no-such-program' is not in the image"),
    ],
)
def test_a_command_that_cannot_be_run_is_refused(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, files: dict[str, str | bytes], command: list[str], words: str
) -> None:
    """Nothing that a restart could cure: status 78, which systemd does not try again."""
    assert words in refused(running(make_unit().start(bundle(tmp_path, files), command)))


def test_a_missing_or_broken_bundle_is_refused(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """Both are named; neither leaves a half-made folder."""
    unit = make_unit()
    assert "No such file" in refused(running(unit.start(tmp_path / "gone.tar.gz", fserve("a:env"))))
    (tmp_path / "bad.tar.gz").write_bytes(b"no gzip")
    assert "is damaged" in refused(running(unit.start(tmp_path / "bad.tar.gz", fserve("a:env"))))
    assert list((unit.folder / "state" / "code").iterdir()) == []


def test_without_a_listening_socket_a_server_is_refused(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """An app must never bind a port of its own choice because the unit was started in another way."""
    unit = make_unit(variables={"LISTEN_FDS": "0"})
    line = refused(running(unit.start(app_bundle(tmp_path, "slow.py"), ["uvicorn", "slow:app"])))
    assert "no listening socket" in line


@pytest.mark.parametrize(
    ("files", "target", "frames", "last"),
    [
        ({"a.py": "import b", "b.py": "1 / 0"}, "a:env", 2, "ZeroDivisionError: division by zero"),
        ({"a.py": "def f(:"}, "a:env", 1, "SyntaxError"),
        ({"a.py": "import no_such_thing"}, "a:env", 1, "ModuleNotFoundError: No module named 'no_such_thing'"),
        ({"a.py": ""}, "nothing:env", 0, "ModuleNotFoundError: No module named 'nothing'"),
    ],
)
def test_the_apps_own_failure_is_shown_as_it_is(
    make_unit: MakeUnit,
    running: Keep,
    tmp_path: Path,
    files: dict[str, str | bytes],
    target: str,
    frames: int,
    last: str,
) -> None:
    """Status 1 and the user's traceback, without a frame of launch or of Python's import machinery."""
    app = running(make_unit().start(bundle(tmp_path, files), fserve(target)))
    assert app.wait() == 1
    assert app.err.count('File "') == frames, app.err
    assert app.err.splitlines()[-1].startswith(last)
    assert "flyted" not in app.err.replace(str(tmp_path), "")


def test_the_apps_own_exit_status_is_kept(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """`sys.exit(5)` while it is imported."""
    app = running(make_unit().start(bundle(tmp_path, {"a.py": "import sys; sys.exit(5)"}), fserve("a:env")))
    assert app.wait() == 5


GONE = {
    "closed": "sys.stdout.close(); sys.stderr.close()",
    "removed": "sys.stdout = sys.stderr = None",
    "replaced": "sys.stdout = sys.stderr = object()",
}


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.parametrize(
    ("end", "status", "words"),
    [
        ("sys.exit(5)", 5, "the last line"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("env = None", 78, "neither a server function nor args"),
    ],
)
def test_an_app_that_ends_its_own_streams_loses_nothing(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, gone: str, end: str, status: int, words: str
) -> None:
    """Neither its exit status, nor the lines that were held back, nor the reason."""
    printed = (
        f"import sys\nprint('line\\n' * {BURST + 1000})\nprint('the last line')\n"  # at once: the limit is a rate
    )
    text = f"{printed}{GONE[gone]}\n{end}\n"
    app = running(make_unit().start(bundle(tmp_path, {"a.py": text}), fserve("a:env")))
    assert (app.wait(), app.err.count("flyted/launch")) == (status, 0), app.err
    assert words in app.err
    assert "the last line" in app.err


def test_a_lifespan_that_fails_is_uvicorns_status_three(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """uvicorn exits 3 (STARTUP_FAILURE); systemd never hears READY=1."""
    text = (
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
    )
    unit = make_unit()
    app = running(unit.start(bundle(tmp_path, {"a.py": text}), ["uvicorn", "a:app"]))
    assert app.wait() == 3
    assert "no database" in app.err
    unit.notices.setblocking(False)
    with pytest.raises(BlockingIOError):
        unit.notices.recv(100)
