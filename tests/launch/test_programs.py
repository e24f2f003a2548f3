"""Apps that are programs: Python's run in this process, so that no argument shows; none in a shell."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.harness import APPS, App, Unit, app_bundle, bundle, fserve

pytestmark = pytest.mark.slow

Keep = Callable[[App], App]
MakeUnit = Callable[..., Unit]
EVIL = "a b; echo INJECTED > $HOME/pwned `id` $(id) 'x\""
NO_SERVER = "import flyte.app\nenv = flyte.app.AppEnvironment(name='x', requires_auth=False)\n"


def code(tmp_path: Path) -> Path:
    """An environment without a server function, and the program it names."""
    return bundle(tmp_path, {"main.py": NO_SERVER, "echo_args.py": (APPS / "echo_args.py").read_bytes()})


@pytest.mark.parametrize(
    "program", [("python", "echo_args.py"), ("python3", "-u", "./echo_args.py"), ("python", "-m", "echo_args")]
)
def test_a_secret_argument_reaches_no_shell_and_no_process_list(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, program: tuple[str, ...]
) -> None:
    """Flyte's fserve hands `$SECRET`, unquoted, to `sh -c`; here it stays one argument that only the program sees."""
    unit = make_unit(secrets={"s0": ("env:AUTH", EVIL.encode())}, variables={"PLAIN": "p q"})
    args = (*program, "--api-key", "$AUTH", '"$PLAIN"', "--x=${AUTH}", "'a b'", "$PLAIN", "'*'", "4")
    app = running(unit.start(code(tmp_path), fserve("main:env", args=args)))
    assert app.wait() == 4, app.err
    seen = json.loads(app.out)
    assert seen["argv"] == ["--api-key", EVIL, "p q", f"--x={EVIL}", "a b", "p", "q", "*", "4"]
    assert seen["name"] == "__main__"
    assert not any("INJECTED" in word for word in seen["cmdline"])
    assert not (unit.folder / "state" / "pwned").exists()


def test_a_console_script_of_the_image_runs_in_process(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """uvicorn's own command, with host, port, workers and reload that it cannot have, serves on the unit's socket."""
    args = ("uvicorn", "slow:app", "--host", "0.0.0.0", "--port", "1", "--workers", "3", "--reload")
    packed = bundle(tmp_path, {"main.py": NO_SERVER, "slow.py": (APPS / "slow.py").read_bytes()})
    app = running(make_unit().start(packed, fserve("main:env", args=args))).ready()
    assert app.get() == (200, "ok")
    assert app.stop() == 0
    assert "workers and reload are ignored" in app.err


def test_a_script_that_calls_uvicorn_run_serves_on_the_units_socket(
    make_unit: MakeUnit, running: Keep, tmp_path: Path
) -> None:
    """A program that starts uvicorn by itself needs no change."""
    script = "import uvicorn, slow\nif __name__ == '__main__':\n    uvicorn.run(slow.app, uds='/nonexistent/x')\n"
    packed = bundle(tmp_path, {"start.py": script, "slow.py": (APPS / "slow.py").read_bytes()})
    app = running(make_unit().start(packed, ["python", "start.py"])).ready()
    assert app.get() == (200, "ok")
    assert app.stop() == 0


def test_without_fserve_arguments_are_taken_as_they_are(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """`command=` replaces fserve wholly in Flyte: nothing expands `$NAME` there either."""
    unit = make_unit(variables={"NAME": "x"})
    app = running(unit.start(app_bundle(tmp_path, "echo_args.py"), ["python", "echo_args.py", "$NAME"]))
    assert app.wait() == 0
    assert json.loads(app.out)["argv"] == ["$NAME"]


def test_another_program_replaces_the_process(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """It gets the socket and systemd's variables as they came, its arguments as they are, and never a shell."""
    unit = make_unit(variables={"SOME": "b c"})
    script = 'echo "$0|$1|$LISTEN_FDS|$CREDENTIALS_DIRECTORY"; test -S /dev/fd/3'
    args = ("sh", "-c", f"'{script}'", '"$SOME"', "'; id'")
    app = running(unit.start(code(tmp_path), fserve("main:env", args=args)))
    assert app.wait() == 0, app.err
    assert app.out == "b c|; id|1|\n"


def test_another_program_with_a_secret_argument_is_refused(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """Its arguments could be read by every user of the machine."""
    unit = make_unit(secrets={"s0": ("env:AUTH", b"CANARY")})
    app = running(unit.start(code(tmp_path), fserve("main:env", args=("sh", "-c", "id", "$AUTH"))))
    assert app.wait() == 78
    assert "would show secret AUTH to all users" in app.err
    assert "CANARY" not in app.err


def test_a_line_that_needs_a_shell_gets_one(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """As on a cluster, with the variables in its environment."""
    unit = make_unit(variables={"WHERE": "down", "SOME": "b c"})
    args = (
        "mkdir",
        "$WHERE",
        "&&",
        "cd",
        "$WHERE;",
        "touch x.py y.py",
        "&& echo *.py ${NONE:-none} $SOME | tr a-z A-Z",
    )
    app = running(unit.start(code(tmp_path), fserve("main:env", args=args)))
    assert app.wait() == 0, app.err
    assert app.out == "X.PY Y.PY NONE B C\n"


@pytest.mark.parametrize("named", ["$AUTH", "${AUTH}", "--k=$AUTH", "${AUTH:-x}", '"$AUTH"'])
def test_a_line_for_a_shell_names_no_secret(make_unit: MakeUnit, running: Keep, tmp_path: Path, named: str) -> None:
    """Flyted refuses it at serve; a unit that was made before does not start."""
    unit = make_unit(secrets={"s0": ("env:AUTH", b"CANARY-VALUE")})
    app = running(unit.start(code(tmp_path), fserve("main:env", args=("true", "&&", "echo", named))))
    assert app.wait() == 78
    assert "would show secret AUTH to all users" in app.err
    assert "CANARY" not in app.out + app.err


def test_an_argument_may_have_lines(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """A program written out in `command`."""
    app = running(make_unit().start(code(tmp_path), ["python", "-c", "x = 1\nprint(x)"]))
    assert app.wait() == 0, app.err
    assert app.out == "1\n"


def test_a_programs_failure_is_its_own(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """The traceback begins in the program."""
    app = running(make_unit().start(bundle(tmp_path, {"p.py": "1 / 0"}), ["python", "p.py"]))
    assert app.wait() == 1
    assert app.err.count('File "') == 1


def test_no_bundle_means_a_working_folder_of_its_own(make_unit: MakeUnit, running: Keep) -> None:
    """A bare command runs in the app's own working folder."""
    unit = make_unit()
    app = running(unit.start(None, [shutil.which("pwd") or "/bin/pwd", "-P"]))
    assert app.wait() == 0
    assert Path(app.out.strip()).samefile(unit.folder / "state" / "work")


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_the_app_may_use_processes(make_unit: MakeUnit, running: Keep, tmp_path: Path, method: str) -> None:
    """A child of multiprocessing imports the app's module, not launch, and takes no connection of the app's."""
    text = (
        "import multiprocessing, os, flyte.app\n"
        "env = flyte.app.AppEnvironment(name='x', requires_auth=False)\n"
        "def work(n): return n * 2\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http': raise RuntimeError\n"
        f"    pool = multiprocessing.get_context('{method}').Pool(1)\n"
        "    body = str(pool.map(work, [21]))\n"
        "    pool.close(); pool.join()\n"  # terminate() waits for ever for a fork that has uvicorn's SIGTERM handler
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': body.encode()})\n"
        "@env.server\n"
        "async def serve():\n"
        "    import uvicorn\n"
        "    await uvicorn.Server(uvicorn.Config(app)).serve()\n"
    )
    app = running(make_unit().start(bundle(tmp_path, {"a.py": text}), fserve("a:env"))).ready()
    assert app.get() == (200, "[42]"), app.err
    assert app.stop() == 0


def test_children_of_the_app_do_not_inherit_the_listener(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """A child that outlives the app would otherwise take its connections."""
    text = (
        "import subprocess, sys\n"
        "look = [sys.executable, '-c', 'import os; print(os.path.exists(\"/proc/self/fd/3\"))']\n"
        "seen = subprocess.run(look, close_fds=False, capture_output=True, text=True).stdout\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http': raise RuntimeError\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': seen.encode()})\n"
    )
    app = running(make_unit().start(bundle(tmp_path, {"a.py": text}), ["uvicorn", "a:app"])).ready()
    assert app.get()[1] == "False\n"
    app.stop()
