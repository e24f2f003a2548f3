"""`domain set --redirect-to`: clients of a base domain are sent to another one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flytectl import cli
from tests.flytectl.stub_daemon import result
from tests.flytectl.test_cli_domains import DOMAIN, FOUND, OWN, daemon, vars_of


def test_a_domain_redirects(stub_daemon, capsys) -> None:
    """The answer says where to; with other options it makes no sense."""
    asked: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> bytes:
        if request["verb"] == "domain.list":
            return result(domains=[])
        assert request["verb"] == "domain.redirect"
        asked.append(request["args"])
        return result(**vars_of(replace(OWN, redirect=str(request["args"]["to"]))))

    stub_daemon(answer)
    assert cli.main(["domain", "set", DOMAIN, "--redirect-to", "New.example.ORG"]) == 0
    assert f"https://APP.{DOMAIN} redirects to https://APP.new.example.org now" in capsys.readouterr().err
    assert cli.main(["domain", "set", DOMAIN, "--no-redirect"]) == 0
    assert f"https://APP.{DOMAIN} is served now" in capsys.readouterr().err
    assert [args["to"] for args in asked] == ["new.example.org", ""]
    for more in ("--own-ca", "--api", "--no-redirect", "--email=a@b.org"):
        assert cli.main(["domain", "set", DOMAIN, "--redirect-to", "new.example.org", more]) == 2
    assert len(asked) == 2


def test_a_redirect_to_what_clients_may_not_trust_asks(stub_daemon, terminal, monkeypatch, capsys) -> None:
    """A certificate of this machine, or one that has not come yet; --yes does not ask."""
    asked: list[object] = []
    other = replace(OWN, domain="new.example.org", problem="no certificate")
    listed = [vars_of(replace(FOUND, domain=DOMAIN)), vars_of(other)]

    def answer(request: dict[str, Any]) -> bytes:
        asked.append(request["verb"])
        return result(domains=listed) if request["verb"] == "domain.list" else result(**vars_of(FOUND))

    stub_daemon(answer)
    monkeypatch.setattr("click.confirm", lambda *_words, **_options: False)
    assert cli.main(["domain", "set", DOMAIN, "--redirect-to", "new.example.org"]) == 1
    said = capsys.readouterr().err
    assert "This machine signs for new.example.org" in said
    assert "not all good: no certificate" in said
    assert asked == ["domain.list"]
    assert cli.main(["domain", "set", DOMAIN, "--redirect-to", "new.example.org", "--yes"]) == 0
    assert asked[1:] == ["domain.redirect"]


def test_a_redirect_is_told_wherever_the_domain_is(stub_daemon, capsys) -> None:
    """With the port; also after its certificate was changed."""
    moved = replace(OWN, redirect="new.example.org", https_port=8443)
    stub_daemon(daemon([], moved))
    assert cli.main(["domain", "set", DOMAIN, "--own-ca", "--yes"]) == 0
    said = capsys.readouterr().err
    assert f"https://APP.{DOMAIN}:8443 redirects to https://APP.new.example.org:8443 now" in said
    assert "all apps are served" not in said
    assert cli.main(["domain", "ls"]) == 0
    assert "redirects to new.example.org" in capsys.readouterr().out
