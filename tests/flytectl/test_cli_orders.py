"""`flytectl domain set` where certificates are ordered: whose account it is, and what it says of DNS and port 80."""

from __future__ import annotations

from pathlib import Path

import pytest

from flytectl import cli
from flyted.contract.answers.machine import Check
from tests.flytectl.test_cli_domains import DOMAIN, ORDERED, OWN, daemon, looked_at

pytestmark = pytest.mark.slow

__all__ = ["looked_at"]


def test_what_is_missing_is_said_at_once(stub_daemon, capsys, looked_at: list[Check]) -> None:
    """With what to do; not for a house, whose names nobody asks for."""
    looked_at.append(Check(f"x.{DOMAIN}", ok=False, detail="has no address in DNS", hint="make a DNS record"))
    for found, words, told in ((ORDERED, ["--email", "me@b.org"], True), (OWN, ["--own-ca"], False)):
        stub_daemon(daemon([], found))
        assert cli.main(["domain", "set", DOMAIN, *words, "--yes"]) == 0
        said = capsys.readouterr().err
        assert (f"x.{DOMAIN} has no address in DNS: make a DNS record" in said) is told
        assert (f"to look again: flytectl domain test {DOMAIN}" in said) is told


def test_an_address_that_is_known_need_not_be_given_again(stub_daemon, tmp_path: Path, capsys) -> None:
    """As of a domain that was proved by HTTP until now; where none is known, nothing is changed."""
    token, asked = tmp_path / "TOKEN", list[str]()
    token.write_text("s3cret-token")
    words = ["domain", "set", DOMAIN, "--dns", "hetzner", "--from-file", str(token), "--yes"]
    stub = stub_daemon(daemon([], ORDERED))
    assert cli.main(words) == 0
    assert stub.requests[-1]["args"]["acme"]["email"] == ORDERED.email
    stub_daemon(daemon(asked, OWN))
    assert cli.main(words) == 2
    assert "--email ADDRESS" in capsys.readouterr().err
    assert asked == ["domain.list"]
