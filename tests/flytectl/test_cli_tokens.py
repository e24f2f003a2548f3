"""`flytectl token` and `flytectl login`: what they ask of the daemon, and what they print."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from flytectl import cli
from flyted.contract.answers.tokens import TokenStatus
from tests.answers import whole
from tests.flytectl.stub_daemon import result

pytestmark = pytest.mark.slow


TOKEN = "flyted_" + "A" * 43
"""Of a token's shape."""


def test_token_prints_a_token_and_nothing_else(stub_daemon, capsys) -> None:
    """It is what Flyte's ExternalCommand reads: one line on stdout, silence on stderr."""
    asked = stub_daemon(result(token=TOKEN, expires_at=2e9, user="bob"))
    assert cli.main(["token"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (TOKEN + "\n", "")
    assert [(r["verb"], r["args"]) for r in asked.requests] == [("token.mint", {})]


MADE = whole(TokenStatus, id="0a", kind="named", name="ci", user="bob", expires_at=2e9)


@pytest.mark.parametrize(
    ("period", "seconds"), [("90d", 7776000), ("12h", 43200), ("30m", 1800), ("45s", 45), ("2w", 1209600)]
)
def test_a_token_is_made_for_a_period(stub_daemon, capsys, period: str, seconds: int) -> None:
    """And printed alone, so that a script can store it."""
    asked = stub_daemon(result(token=TOKEN, status=MADE))
    assert cli.main(["token", "create", "--name", "ci", "--expires", period, "--app", "web"]) == 0
    assert capsys.readouterr().out == TOKEN + "\n"
    assert asked.requests[0]["args"] == {
        "name": "ci", "expires_s": seconds, "project": "default", "domain": "development", "app": "web",
    }  # fmt: skip


@pytest.mark.parametrize("period", ["", "90", "d", "0d", "-1d", "1.5h", "1y", "1d ", "\u0661d", "9999999999s"])
def test_other_periods_are_refused(stub_daemon, capsys, period: str) -> None:
    """Before the daemon is asked; never for ever by accident."""
    asked = stub_daemon(result())
    assert cli.main(["token", "create", "--name", "ci", f"--expires={period}"]) == 2
    assert "is not a period" in capsys.readouterr().err
    assert asked.requests == []


def test_tokens_are_listed_without_those_that_come_by_themselves(stub_daemon, capsys) -> None:
    """``--all`` shows them; nothing shows a token."""
    session = replace(MADE, id="0b", kind="session", name="")
    stub_daemon(result(tokens=[MADE, session]))
    assert cli.main(["token", "ls"]) == 0
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]] == [["ci", "named", "*"]]
    assert cli.main(["token", "ls", "--all", "--json"]) == 0
    assert [t["id"] for t in json.loads(capsys.readouterr().out)["tokens"]] == ["0a", "0b"]


def test_revoke_wants_names_or_all(stub_daemon, capsys) -> None:
    """Nothing is revoked by forgetting a word."""
    asked = stub_daemon(result(tokens=[MADE]))
    assert cli.main(["token", "revoke"]) == 2
    assert cli.main(["token", "revoke", "ci", "--all"]) == 2
    assert asked.requests == []
    assert cli.main(["token", "revoke", "ci", "0b"]) == 0
    assert [r["args"] for r in asked.requests] == [{"token": "ci", "all": False}, {"token": "0b", "all": False}]
    assert cli.main(["token", "revoke", "--all"]) == 0
    assert asked.requests[-1]["args"] == {"token": "", "all": True}


def test_login_prints_a_link(stub_daemon, capsys) -> None:
    """Alone on stdout: xdg-open takes it."""
    link = "https://flyted.localhost/login?code=x"
    stub_daemon(result(code="x", url=link, expires_at=2e9))
    assert cli.main(["login"]) == 0
    assert capsys.readouterr().out == link + "\n"
