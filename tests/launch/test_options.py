"""launch's own command line, and the second line of defence for names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flyted.contract import names
from flyted.contract.errors import InvalidInput
from flyted.launch import start
from flyted.launch.options import check_variable, parse
from flyted.launch.refused import Refused
from flyted.launch.start import words

pytestmark = pytest.mark.slow

HARMLESS = ("API_KEY", "A", "_X", "lower", "FLYTE_THING", "HOMEPAGE", "XPATH", "A" * 128)
HARMFUL = (
    *("LD_PRELOAD", "LD_X", "PYTHONPATH", "PYTHONSTARTUP", "PATH", "HOME", "IFS", "ENV", "BASH_ENV", "SHELL"),
    *("CREDENTIALS_DIRECTORY", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "GCONV_PATH", "STATE_DIRECTORY"),
    *(
        "_F_SYS_PATH",
        "_U_EP_OVERRIDE",
        "FLYTED_X",
        "",
        "1A",
        "A-B",
        "A B",
        "A\n",
        "\u0410",
        "A=B",
        "A" * 129,
        "$A",
        "%n",
    ),
)


def test_a_whole_command_line() -> None:
    """Every option once; all after --quoted is the app's, also what looks like ours."""
    words = ["--app", "a", "--bundle", "/b/x.tar.gz", "--secret", "s0=env:K", "--secret", "s1=file:a.pem", "--sums"]
    options = parse([*words, "sums", "--quoted", "fserve", "--app", "--", "x", "%[K]%24"])
    assert (options.app, options.bundle, options.sums) == ("a", "/b/x.tar.gz", "sums")
    assert [(s.credential, s.kind, s.name) for s in options.secrets] == [("s0", "env", "K"), ("s1", "file", "a.pem")]
    assert (options.command, options.args) == (["fserve", "--app", "--"], ["x", "%[K]%24"])
    assert parse(["--app", "a", "--quoted", "p", "--", "%24"]).command == ["p", "--", "$"]
    assert options.secret_files == "/etc/flyte/secrets"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--app", "a"],
        ["--app", "a", "--quoted"],
        ["--app"],
        ["--app", "a", "--new", "x", "--quoted", "p"],
        ["--quoted", "p"],
        ["--app", "a", "--secret", "s0", "--quoted", "p"],
        ["--app", "a", "--secret", "s0=K", "--quoted", "p"],
        ["--app", "a", "--secret", "s0=env", "--quoted", "p"],
        ["--app", "a", "--secret", "s0=shm:K", "--quoted", "p"],
        ["--app", "a", "--secret", "../s0=env:K", "--quoted", "p"],
        ["--app", "a", "--secret", "=env:K", "--quoted", "p"],
        ["--app", "a", "--secret", "s0=file:../x", "--quoted", "p"],
        ["--app", "a", "--secret", "s0=file:/x", "--quoted", "p"],
        ["--app", "a", "--secret", "s0=file:a..b", "--quoted", "p"],
        ["--app", "a", "--secret", "s0=file:", "--quoted", "p"],
        ["--app", "a", "--secret", "s0=file:x\n", "--quoted", "p"],
        ["--app", "a", "--secret", "s0=env:K", "--secret", "s1=env:K", "--quoted", "p"],
        ["--app", "a", "--sums", "../../x", "--quoted", "p"],
    ],
)
def test_anything_else_is_refused(words: list[str]) -> None:
    """A path in a credential's name, two secrets with one name, an option of another version: nothing is guessed."""
    with pytest.raises(Refused):
        parse(words)


@pytest.mark.parametrize("name", [*HARMLESS, *HARMFUL])
def test_launch_and_flyted_refuse_the_same_variables(name: str) -> None:
    """launch can import nothing of flyted, so it repeats the rule; the two must not drift apart."""
    try:
        flyted_allows = bool(names.env_name(name))
    except InvalidInput:
        flyted_allows = False
    try:
        launch_allows = bool(check_variable(name, "a secret"))
    except Refused:
        launch_allows = False
    assert launch_allows == flyted_allows == (name in HARMLESS)


@pytest.mark.parametrize("name", HARMFUL)
def test_a_secret_cannot_change_what_runs(name: str) -> None:
    """LD_PRELOAD as a secret's variable would be code from a value."""
    with pytest.raises(Refused):
        parse(["--app", "a", "--secret", f"s0=env:{name}", "--quoted", "p"])


def told(folder: Path, environment: dict[str, str], words: list[str]) -> dict[str, str]:
    """The surroundings of a launch that is told this by its credential."""
    (folder / "start").write_text(json.dumps({"environment": environment, "words": words}))
    return {"CREDENTIALS_DIRECTORY": str(folder), "LANG": "C.UTF-8"}


def test_the_rest_of_the_command_line_comes_as_a_credential(tmp_path: Path) -> None:
    """Any text arrives as it is; variables are set before anything else is looked at."""
    odd = "a\nb $HOME ${X} %n ;`'\" \u2028 \x1b \u00e9"
    environ = told(tmp_path, {"A": odd, "LANG": "C.UTF-8"}, ["--bundle", "/b", "--quoted", "serve", odd])
    options = parse(words(["--app", "a", "--start", "start"], environ))
    assert (options.app, options.bundle, options.command) == ("a", "/b", ["serve", odd])
    assert environ["A"] == odd


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"environment": [], "words": []}', '{"words": ["x"]}'])
def test_a_command_line_that_did_not_arrive_is_said(tmp_path: Path, content: str | None) -> None:
    """Systemd starts a unit with an empty credential without a word."""
    if content is not None:
        (tmp_path / "start").write_text(content)
    with pytest.raises(Refused, match="credential start"):
        words(["--app", "a", "--start", "start"], {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_variables_that_are_read_before_us_count_too(tmp_path: Path) -> None:
    """Python looks at the locale, the C library at TZ and MALLOC_… before our first line: launch starts anew, once."""
    shown = "import os, time; print(time.tzname[0], 'FLYTED_STARTED_AGAIN' in os.environ)"
    (tmp_path / "show.py").write_text(shown)
    rest = ["--quoted", str(Path(sys.executable)), str(tmp_path / "show.py")]
    environ = told(tmp_path, {"TZ": "Pacific/Tongatapu", "LC_CTYPE": "POSIX", "PATH": "/usr/bin:/bin"}, rest)
    launch = Path(start.__file__).parent
    folders = {"CACHE_DIRECTORY": str(tmp_path / "cache"), "STATE_DIRECTORY": str(tmp_path / "state")}
    for folder in folders.values():
        Path(folder).mkdir()
    done = subprocess.run(
        [sys.executable, "-I", str(launch), "--app", "a", "--start", "start"],
        env=environ | folders, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "+13 False\n", done.stdout + done.stderr
