"""launch's own command line, and the second line of defence for names."""

from __future__ import annotations

import pytest

from flyted.contract import names
from flyted.contract.errors import InvalidInput
from flyted.launch.options import check_variable, parse
from flyted.launch.refused import Refused

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
