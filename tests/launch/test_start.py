"""A start from the outside: what the app sees, what systemd hears, what everybody else can see."""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flyted.launch.words import EX_CONFIG
from tests.launch.harness import LAUNCH, ROOT, App, Unit, app_bundle, bundle, fserve

pytestmark = pytest.mark.slow

CANARY = "CANARY-7f3a91; echo INJECTED $HOME"
SEED = ROOT / "examples" / "basic_auth.py"
Keep = Callable[[App], App]
MakeUnit = Callable[..., Unit]


@pytest.fixture
def probe(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> App:
    """The probe app, started with two secrets and one more folder of code, until READY=1."""
    unit = make_unit(
        secrets={"s0": ("env:API_KEY", CANARY.encode()), "s1": ("file:MY_FILE", b"\x00\xff")},
        variables={"_F_SYS_PATH": "./sub:./."},
    )
    code = bundle(
        tmp_path,
        {
            "probe.py": (ROOT / "tests/apps/launch/probe.py").read_text() + "\nimport deeper\n",
            "sub/deeper.py": "print('deeper')\n",
            # named like launch's own modules, and like what launch itself imports late
            "run.py": "raise AssertionError",
            "options.py": "raise AssertionError",
            "bundle.py": "raise AssertionError",
        },
    )
    return running(unit.start(code, fserve("probe:env"))).ready()


def test_the_app_sees_its_secrets_and_nothing_of_ours(probe: App) -> None:
    """Secrets are variables; what systemd and launch speak through is gone; argv and initial environ hold no value."""
    facts = probe.json()
    environ = facts["environ"]
    assert environ["API_KEY"] == CANARY
    for name in ("NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        assert name not in environ
    assert environ["FLYTE_SECRETS_DEFAULT_DIR"] == str(probe.unit.folder / "files")
    assert (environ["FLYTE_SECRETS_FILE_PREFIX"], environ["FLYTE_SECRETS_ENV_PREFIX"]) == ("", "_FSEC_")
    assert "CANARY" not in facts["cmdline"] + facts["kernel_environ"]
    assert "CANARY" not in probe.out + probe.err
    assert probe.stop() == 0


def test_the_app_has_the_surroundings_of_a_container(probe: App) -> None:
    """Working folder and code on sys.path, _F_SYS_PATH before it, absolute; image programs first; a HOME to write."""
    facts = probe.json()
    assert facts["gc"] == facts["gc_default"]
    assert Path(facts["cwd"]).samefile(facts["path"][1])
    assert facts["path"][0] == f"{facts['cwd']}/sub"
    assert facts["path"][2] == f"{facts['path'][3]}/sub"
    assert Path(facts["path"][3]).parent == probe.unit.folder / "state" / "code"
    assert not any("flyted/launch" in entry for entry in facts["path"])
    environ = facts["environ"]
    assert environ["PATH"].split(":")[0] == str(Path(probe.unit.python).parent)
    assert environ["HOME"] == str(probe.unit.folder / "state")
    assert environ["CACHE_DIRECTORY"] == str(probe.unit.folder / "cache")
    assert environ["_FLYTE_APP_RAW_DATA_PATH"] == str(probe.unit.folder / "state" / "raw")
    assert environ["FLYTE_INTERNAL_EXECUTION_PROJECT"] == "default"
    assert json.loads(Path(environ["flyte-parameters.json"]).read_text()) == {}
    assert sorted(Path(facts["cwd"]).glob("__pycache__/probe.*.pyc")), "byte code of the app must persist"


def test_a_secret_wins_over_a_variable_of_its_name(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """As the file says both: whoever wants the value of a secret has not meant the other."""
    unit = make_unit(secrets={"s0": ("env:BOTH", CANARY.encode())})
    code = bundle(tmp_path, {"p.py": "import os\nprint('found', len(os.environ['BOTH']), os.environ['ONE'])\n"})
    options = [*unit.options(code), "--start", "start"]
    told = {"environment": {"BOTH": "plain", "ONE": "1"}, "words": []}
    (unit.folder / "credentials" / "start").write_text(json.dumps(told))
    app = running(unit.start(code, fserve("", args=("python", "p.py")), options=options))
    assert app.wait() == 0
    assert app.out == f"found {len(CANARY)} 1\n"


def test_an_apps_module_may_be_named_like_one_of_ours(probe: App) -> None:
    """Launch's modules have no top-level name, so that `import run` is the app's."""
    imported = probe.json()["imported"]
    ours = {path.stem for path in LAUNCH.glob("*.py")} - {"__main__"}
    assert ours.isdisjoint(imported)


def test_while_the_code_is_loaded_systemd_knows_it(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """`systemctl status` of a slow start says what it waits for; the app finds fserve's command in sys.argv."""
    text = "import gc, sys\nprint(sys.argv, gc.get_threshold()[0] > 700)\nraise SystemExit(0)\n"
    unit, command = make_unit(), fserve("first:env")
    app = running(unit.start(bundle(tmp_path, {"first.py": text}), command))
    assert unit.notices.recv(100) == b"STATUS=loading first"
    assert app.wait() == 0
    assert app.out == f"{command} True\n"


def test_before_the_apps_code_nothing_heavy_is_imported(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """From the second start on, the app's own imports are the first that cost."""
    code = bundle(tmp_path, {"first.py": "import sys\nprint(sorted(sys.modules))\nraise SystemExit(0)\n"})
    unit = make_unit()
    assert running(unit.start(code, fserve("first:env"))).wait() == 0
    second = running(unit.start(code, fserve("first:env")))
    assert second.wait() == 0, second.err
    imported = set(json.loads(second.out.replace("'", '"')))
    assert imported.isdisjoint({"asyncio", "tarfile", "flyte", "uvicorn", "gzip", "pickle", "runpy_", "tempfile"})


def test_the_ingress_is_believed_about_the_client(probe: App) -> None:
    """The socket's only client is the ingress: its X-Forwarded-* reach the app, or redirects would lead to http."""
    facts = probe.json(headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"})
    assert (facts["scheme"], facts["client"][0]) == ("https", "203.0.113.9")


def test_the_backlog_stays_as_the_socket_unit_made_it(probe: App) -> None:
    """The app asks for 7; requests that wait for a busy app, or for the next cold start, need room for 4096."""
    probe.process.send_signal(signal.SIGSTOP)
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(400)]
    for client in waiting:
        client.setblocking(False)
        client.connect(str(probe.unit.path))  # BlockingIOError where the backlog is full
    probe.process.send_signal(signal.SIGCONT)
    for client in waiting:
        client.close()


def test_output_arrives_line_by_line(probe: App) -> None:
    """-I ignores PYTHONUNBUFFERED; a killed app's last line must be in the journal."""
    probe.process.kill()
    probe.wait()
    assert probe.out == "probe imported\ndeeper\n"


def test_the_documents_app_answers(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """basic_auth.py, byte for byte: 200 with the key, 403 with another, public pages open."""
    unit = make_unit(secrets={"s0": ("env:API_KEY", b"my-secret-api-key-12345")})
    code = bundle(tmp_path, {"basic_auth.py": SEED.read_bytes()})
    app = running(unit.start(code, fserve("basic_auth:env"))).ready()
    right, wrong = {"Authorization": "Bearer my-secret-api-key-12345"}, {"Authorization": "Bearer other"}
    assert app.json("/protected", right) == {"message": "This is protected", "user": "my-secret-api-key-12345"}
    assert [app.get(path, wrong)[0] for path in ("/protected", "/public", "/docs")] == [403, 200, 200]
    assert app.stop() == 0
    assert "\x1b[" not in app.err


def test_readiness_reaches_an_abstract_socket(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """systemd may give NOTIFY_SOCKET=@name."""
    unit = make_unit()
    unit.notices.close()
    unit.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    unit.notices.bind(f"\0{tmp_path}")
    unit.notices.settimeout(30)
    unit.variables["NOTIFY_SOCKET"] = f"@{tmp_path}"
    app = running(unit.start(app_bundle(tmp_path, "slow.py"), ["uvicorn", "slow:app"])).ready()
    assert app.get() == (200, "ok")
    app.stop()
    assert unit.notice() == "STOPPING=1\nSTATUS=finishing requests"


def parameters(*items: dict[str, object]) -> tuple[str, str]:
    """The SDK's --parameters option (flyte/app/_parameter.py to_transport)."""
    text = json.dumps({"parameters": items}).encode()
    return "--parameters", base64.b64encode(gzip.compress(text)).decode()


GREETING = parameters(
    {"name": "greeting", "value": "hello", "type": "string", "download": False, "env_var": "GREETING"},
    {"name": "other", "value": "x", "type": "string", "download": False, "env_var": None},
)


@pytest.mark.parametrize(("kind", "answer"), [("async", "hello default"), ("sync", "hello")])
def test_hooks_run_around_the_server_with_their_parameters(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, kind: str, answer: str
) -> None:
    """on_startup, server and on_shutdown get the parameters they name, in this order, also when SIGTERM ends it."""
    unit = make_unit(variables={"KIND": kind})
    app = running(unit.start(app_bundle(tmp_path, "hooks.py"), fserve("hooks:env", options=GREETING))).ready()
    assert app.get() == (200, answer)
    assert app.stop() == 0
    assert [line for line in app.out.splitlines() if not line.startswith("INFO")] == [
        "on_startup hello hello",
        "on_shutdown [('greeting', 'hello'), ('other', 'x')]",
    ]


@pytest.mark.parametrize(
    ("kind", "status", "last"), [("returns", 0, "server returned"), ("raises", 1, "on_startup hello hello")]
)
def test_a_server_function_that_ends_by_itself(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, kind: str, status: int, last: str
) -> None:
    """Exit 0 as fserve, or 1 with the app's own traceback; on_shutdown runs in both cases."""
    unit = make_unit(variables={"KIND": kind})
    app = running(unit.start(app_bundle(tmp_path, "hooks.py"), fserve("hooks:env", options=GREETING)))
    assert app.wait() == status
    assert app.out.splitlines()[-2] == last
    assert app.out.splitlines()[-1].startswith("on_shutdown")
    if status:
        assert "the app's own failure" in app.err
        assert app.err.count("File ") == 1, app.err


@pytest.mark.parametrize(("kind", "sign"), [("sleeps", "sleeping"), ("waits", "waiting")])
def test_sigterm_ends_a_server_function_without_uvicorn(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, kind: str, sign: str
) -> None:
    """Such a function cannot be asked to finish; on_shutdown runs all the same, and the process ends at once."""
    unit = make_unit(variables={"KIND": kind})
    app = running(unit.start(app_bundle(tmp_path, "hooks.py"), fserve("hooks:env", options=GREETING))).until(sign)
    assert app.stop() == 0, app.err
    assert app.out.splitlines()[-1].startswith("on_shutdown")
    assert unit.notice().startswith("STOPPING=1")


def test_a_pickled_environment_is_served(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """`--pkl`: the bundle is the environment itself, made interactively (flyte/_bin/serve.py load_pkl_app_env)."""
    script = (
        "import gzip, sys, cloudpickle, flyte.app\n"
        "env = flyte.app.AppEnvironment(name='p', requires_auth=False)\n"
        "@env.server\n"
        "async def serve(): print('served from a pickle')\n"
        "env._caller_frame = None\n"
        "gzip.open(sys.argv[1], 'wb').write(cloudpickle.dumps(env))\n"
    )
    unit = make_unit()
    subprocess.run([unit.python, "-c", script, str(tmp_path / "abc.tar.gz")], check=True)
    command = ["fserve", "--version", "x", "--pkl", "/x/code.pkl.gz", "--dest", ".", "--"]
    app = running(unit.start(tmp_path / "abc.tar.gz", command))
    assert (app.wait(), app.out) == (0, "served from a pickle\n"), app.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no gzip", "the pickled app cannot be read: Not a gzipped file"),
        (gzip.compress(b"no pickle"), "the pickled app cannot be read: "),
        (gzip.compress(pickle.dumps([*range(999)]))[:300], "the pickled app cannot be read: "),
        (gzip.compress(pickle.dumps({"a": 1})), "the pickle holds no app environment, but a dict"),
        (gzip.compress(b"cnowhere\nenv\n."), "ModuleNotFoundError: No module named 'nowhere'): the image needs the"),
        (gzip.compress(b"\x80\x63."), "cannot be loaded by the image's Python 3.|unsupported pickle protocol: 99"),
    ],
    ids=["no-gzip", "no-pickle", "cut-off", "a-dict", "no-module", "newer"],
)
def test_a_pickle_that_is_none_is_refused(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, content: bytes, said: str
) -> None:
    """In one sentence, without a traceback."""
    unit = make_unit()
    (tmp_path / "abc.tar.gz").write_bytes(content)
    app = running(unit.start(tmp_path / "abc.tar.gz", ["fserve", "--version", "x", "--pkl", "bundle", "--"]))
    assert app.wait() == EX_CONFIG
    assert "Traceback" not in app.err
    assert any(each in app.err for each in said.split("|")), app.err
