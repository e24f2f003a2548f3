"""`flytectl domain`: what it asks of the daemon, what it says before it lets other machines in, and what it prints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flytectl import cli, reach
from flyted.contract.acme import LETS_ENCRYPT, STAGING
from flyted.contract.answers.codec import to_wire
from flyted.contract.answers.domains import DomainStatus, OrderStatus, RevocationStatus
from flyted.contract.answers.machine import Check
from tests.answers import whole
from tests.flytectl.stub_daemon import result

pytestmark = pytest.mark.slow

DOMAIN = "apps.example.org"
FOUND = whole(
    DomainStatus, domain=DOMAIN, certificate="file", issuer="R11", fingerprint="AB:CD", not_before=1.7e9,
    not_after=1.8e9, shown=True,
)  # fmt: skip
OWN = replace(FOUND, certificate="own-ca", issuer="this machine", authority="EF:01", authority_pem="-----BEGIN X\n")
CLOSED, OPEN = ["127.0.0.1", "::1"], ["0.0.0.0", "::"]


@pytest.fixture(autouse=True)
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """What is found at a domain, without a look at the network (test_reach.py)."""
    found: list[Check] = []
    monkeypatch.setattr(reach, "at_first", lambda _domain: found)
    return found


def daemon(asked: list[str], found: DomainStatus = OWN, *, opens: bool = True):
    """An answer for each verb."""

    def answer(request: dict[str, object]) -> bytes:
        asked.append(str(request["verb"]))
        if request["verb"] == "domain.preview":
            return result(
                listens=CLOSED, would_listen=OPEN if opens else CLOSED, open_apps=["hello"], apps=3,
                shown="apps.localhost", would_show=DOMAIN if found.shown else "apps.localhost",
            )  # fmt: skip
        if request["verb"] == "domain.list":
            return result(domains=[vars_of(found)])
        return result() if request["verb"] == "domain.remove" else result(**vars_of(found))

    return answer


def vars_of(found: DomainStatus) -> dict[str, object]:
    """The fields of an answer."""
    return to_wire(found)


def test_the_api_is_served_after_a_yes(stub_daemon, terminal, monkeypatch, capsys) -> None:
    """It says who will reach it; a domain that is there keeps its certificate."""
    asked: list[str] = []
    stub_daemon(daemon(asked))
    monkeypatch.setattr("click.confirm", lambda *_words, **_options: False)
    assert cli.main(["domain", "set", DOMAIN, "--api"]) == 1
    said = capsys.readouterr().err
    assert f"will reach flyted's API at flyted.{DOMAIN}" in said
    assert asked == ["domain.list"]
    stub_daemon(daemon(asked, replace(OWN, api=f"flyted.{DOMAIN}", https_port=8443)))
    assert cli.main(["domain", "set", DOMAIN, "--api", "--yes"]) == 0
    said = capsys.readouterr().err
    assert f"flyted's API is at https://flyted.{DOMAIN}:8443" in said
    assert "all apps are served" not in said
    assert asked[1:] == ["domain.api"]
    asked.clear()
    assert cli.main(["domain", "set", DOMAIN, "--own-ca", "--no-api", "--yes"]) == 0
    assert asked == ["domain.preview", "domain.set", "domain.api"]


def test_it_says_who_will_be_reachable_and_asks(stub_daemon, terminal, monkeypatch, capsys) -> None:
    """By name; after a no nothing is changed."""
    asked: list[str] = []
    stub_daemon(daemon(asked))
    monkeypatch.setattr("click.confirm", lambda *_words, **_options: False)
    assert cli.main(["domain", "set", DOMAIN, "--own-ca"]) == 1
    said = capsys.readouterr().err
    for words in (
        "listens on 127.0.0.1, ::1 now",
        "will listen on 0.0.0.0, ::",
        "without a token: hello",
        "nothing was",
    ):
        assert words in said
    assert asked == ["domain.preview"]
    monkeypatch.setattr("click.confirm", lambda *_words, **_options: True)
    assert cli.main(["domain", "set", DOMAIN, "--own-ca"]) == 0
    assert asked[1:] == ["domain.preview", "domain.set"]
    assert f"flytectl ca show {DOMAIN} --qr" in capsys.readouterr().err


def test_without_a_terminal_it_needs_yes(stub_daemon, capsys) -> None:
    """Unless it opens nothing."""
    asked: list[str] = []
    stub_daemon(daemon(asked))
    assert cli.main(["domain", "set", DOMAIN, "--own-ca"]) == 2
    assert "add --yes" in capsys.readouterr().err
    assert asked == ["domain.preview"]
    assert cli.main(["domain", "set", DOMAIN, "--own-ca", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["authority"] == "EF:01"


def test_one_that_opens_nothing_is_not_asked_about(stub_daemon) -> None:
    """As when a certificate is replaced."""
    asked: list[str] = []
    stub_daemon(daemon(asked, opens=False))
    assert cli.main(["domain", "set", DOMAIN, "--own-ca"]) == 0
    assert asked == ["domain.preview", "domain.set"]


@pytest.mark.parametrize("opens", [True, False])
@pytest.mark.parametrize("changes", [True, False])
def test_that_urls_change_is_said_before(
    stub_daemon, terminal, monkeypatch, capsys, opens: bool, changes: bool
) -> None:
    """Before anything is changed; it is no question of its own, because the old ones keep working."""
    asked: list[str] = []
    stub_daemon(daemon(asked, replace(OWN, shown=changes), opens=opens))
    monkeypatch.setattr("click.confirm", lambda *_words, **_options: False)
    assert cli.main(["domain", "set", DOMAIN, "--own-ca"]) == (1 if opens else 0)
    said = f"The URLs of 3 apps will be https://APP.{DOMAIN}; those at apps.localhost keep working."
    assert (said in capsys.readouterr().err) is changes


def test_certificate_and_key_go_over_the_socket(stub_daemon, tmp_path: Path, capsys) -> None:
    """And are in no message."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text("CERT")
    key.write_text("SECRET-KEY")
    asked: list[str] = []
    stub = stub_daemon(daemon(asked, FOUND))
    assert cli.main(["domain", "cert", DOMAIN, "--cert", str(cert), "--key", str(key), "--yes"]) == 0
    assert stub.bulk == b"CERT\nSECRET-KEY"
    assert stub.requests[-1]["args"] == {
        "domain": DOMAIN, "certificate": "file", "acme": {}, "bulk": len(stub.bulk),
    }  # fmt: skip
    shown = capsys.readouterr()
    assert "SECRET-KEY" not in shown.out + shown.err


ORDERED = replace(
    FOUND, certificate="acme", email="me@b.org", server=LETS_ENCRYPT, orders=(
        OrderStatus(f"a.{DOMAIN}", "R11", 1.7e9, 1.8e9, 1.75e9, "", ""),
        OrderStatus(f"b.{DOMAIN}", "", 0.0, 0.0, 0.0, f"b.{DOMAIN} has no DNS record", "make one"),
        OrderStatus(f"c.{DOMAIN}", "", 0.0, 0.0, 0.0, "", ""),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("more", "acme"),
    [
        ([], {"server": LETS_ENCRYPT, "server_ca": "", "dns": ""}),
        (["--staging"], {"server": STAGING, "server_ca": "", "dns": ""}),
        (["--acme-server", "https://ca.lan/dir", "--acme-server-ca", "CA"],
         {"server": "https://ca.lan/dir", "server_ca": "PEM", "dns": ""}),
        (["--dns", "hetzner", "--from-file", "TOKEN"], {"server": LETS_ENCRYPT, "server_ca": "", "dns": "hetzner"}),
    ],
)  # fmt: skip
def test_what_orders_certificates(stub_daemon, tmp_path: Path, capsys, more: list[str], acme: dict[str, str]) -> None:
    """The provider's token follows the request, and is in no message."""
    (tmp_path / "CA").write_text("PEM")
    (tmp_path / "TOKEN").write_text("s3cret-token")
    stub = stub_daemon(daemon([], ORDERED))
    words = [str(tmp_path / word) if word in ("CA", "TOKEN") else word for word in more]
    assert cli.main(["domain", "set", DOMAIN, "--email", "me@b.org", *words, "--yes"]) == 0
    secret = b"s3cret-token" if acme["dns"] else b""
    assert stub.bulk == secret
    assert stub.requests[-1]["args"] == {
        "domain": DOMAIN, "certificate": "acme", "acme": {"email": "me@b.org", **acme}, "bulk": len(secret),
    }  # fmt: skip
    shown = capsys.readouterr()
    assert "s3cret-token" not in shown.out + shown.err
    assert "at your DNS provider" in shown.err
    assert f"flytectl domain get {DOMAIN}" in shown.err


@pytest.mark.parametrize(("dns", "port", "told"), [("", 8080, True), ("", 80, False), ("hetzner", 8080, False)])
def test_an_authority_asks_at_port_80(stub_daemon, capsys, dns: str, port: int, told: bool) -> None:
    """And nowhere else, unless the domain is proved by DNS."""
    stub_daemon(daemon([], replace(ORDERED, http_port=port, dns=dns)))
    assert cli.main(["domain", "set", DOMAIN, "--email", "me@b.org", "--yes"]) == 0
    assert ("the authority asks at port 80" in capsys.readouterr().err) is told


@pytest.mark.parametrize("verb", ["get", "renew"])
def test_each_ordered_certificate_has_a_row(stub_daemon, capsys, verb: str) -> None:
    """Which authority gave it, until when, and why there is none."""
    asked: list[str] = []
    stub_daemon(daemon(asked, ORDERED))
    assert cli.main(["domain", verb, DOMAIN]) == 0
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[-3:]]
    assert rows[0] == f"a.{DOMAIN} R11 2027-01-15 ok"
    assert rows[1] == f"b.{DOMAIN} - - b.{DOMAIN} has no DNS record"
    assert rows[2] == f"c.{DOMAIN} - - ordered"
    assert asked == [f"domain.{verb}"]


@pytest.mark.parametrize(("words", "said"), [
    (["set", "Apps.Example.ORG.", "--own-ca", "--yes"], DOMAIN),
    (["set", "apps.b\u00fccher.example", "--own-ca", "--yes"], "apps.xn--bcher-kva.example"),
])  # fmt: skip
def test_a_name_is_brought_into_its_form_in_dns(stub_daemon, words: list[str], said: str) -> None:
    """Lower case, without a dot at its end, other letters encoded."""
    stub = stub_daemon(daemon([]))
    assert cli.main(["domain", *words]) == 0
    assert {request["args"]["domain"] for request in stub.requests} == {said}


@pytest.mark.parametrize(
    "words",
    [
        ["set", DOMAIN], ["set", "lan", "--own-ca"], ["set", "a b.c", "--own-ca"], ["set", "", "--own-ca"],
        ["set", "a..b", "--own-ca"],
        ["set", f"*.{DOMAIN}", "--own-ca"], ["set", "a." * 100 + "b", "--own-ca"],
        ["cert", DOMAIN, "--cert", "/nothing"],
        ["cert", DOMAIN, "--cert", "/nothing", "--key", "/nothing"], ["get"], ["rm", DOMAIN], ["renew"],
        ["set", DOMAIN, "--own-ca", "--email", "a@b.org"], ["set", DOMAIN, "--dns", "hetzner"],
        ["set", DOMAIN, "--email", "a@b.org", "--from-file", "/nothing"],
        ["set", DOMAIN, "--email", "a@b.org", "--dns", "hetzner", "--from-file", "/nothing"],
        ["set", DOMAIN, "--email", "a@b.org", "--staging", "--acme-server", "https://x.org/dir"],
        ["set", DOMAIN, "--email", "a@b.org", "--acme-server-ca", "/nothing"],
    ],
)  # fmt: skip
def test_what_it_does_not_take(stub_daemon, capsys, words: list[str]) -> None:
    """It is said, with a status that is not 0, and the daemon is asked to change nothing."""
    asked: list[str] = []
    stub_daemon(daemon(asked))
    assert cli.main(["domain", *words]) != 0
    assert capsys.readouterr().err
    assert not {"domain.set", "domain.remove"} & set(asked)


def test_what_is_shown(stub_daemon, capsys) -> None:
    """A row each; all of one; the authority alone for other machines."""
    stub_daemon(result(domains=[vars_of(FOUND), vars_of(replace(OWN, domain="apps.box.lan", problem="it ended"))]))
    assert cli.main(["domain", "ls"]) == 0
    shown = capsys.readouterr().out
    assert "apps.example.org  file" in shown
    assert "it ended" in shown


def test_one_is_shown(stub_daemon, capsys) -> None:
    """With what to type."""
    stub_daemon(daemon([], replace(OWN, problem="it ended", hint="do this")))
    assert cli.main(["domain", "get", DOMAIN]) == 0
    shown = capsys.readouterr().out
    for words in ("https://APP.apps.example.org", "signed by this machine", "EF:01", "it ended", "do this"):
        assert words in shown


def test_an_authority_is_shown_to_other_machines(stub_daemon, monkeypatch, capsys) -> None:
    """Its fingerprint and the page's address, also as a QR code; alone, the certificate."""
    stub_daemon(daemon([], replace(OWN, http_port=8080)))
    monkeypatch.setattr("flytectl.qr_code.text", lambda content: f"[{content}]")
    assert cli.main(["ca", "show", DOMAIN, "--qr"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"[http://flyted.{DOMAIN}:8080]\nSHA-256  EF:01\n")
    assert f"{DOMAIN} and names below it" in shown
    assert cli.main(["ca", "show", DOMAIN, "--pem"]) == 0
    assert capsys.readouterr().out == "-----BEGIN X\n"
    assert cli.main(["ca", "show", DOMAIN, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["page"] == f"http://flyted.{DOMAIN}:8080"


def test_a_foreign_authority_cannot_be_shown(stub_daemon, capsys) -> None:
    """We do not have it; and the one for this machine's own names is of no use elsewhere."""
    stub_daemon(daemon([], FOUND))
    assert cli.main(["ca", "show", DOMAIN, "--pem"]) == 2
    assert f"this machine does not sign for {DOMAIN}: its certificate is from R11" in capsys.readouterr().err
    assert cli.main(["ca", "show", "--qr"]) == 2
    assert "name the DOMAIN" in capsys.readouterr().err
    assert cli.main(["ca", "show", DOMAIN, "--qr", "--pem"]) == 2


def test_a_missing_qrencode_is_named(stub_daemon, monkeypatch, capsys) -> None:
    """With how to get it."""
    stub_daemon(daemon([], OWN))
    monkeypatch.setenv("PATH", "/nothing")
    assert cli.main(["ca", "show", DOMAIN, "--qr"]) == 9
    assert "hint: sudo apt install qrencode" in capsys.readouterr().err


def test_revoking_asks(stub_daemon, terminal, monkeypatch, capsys) -> None:
    """Clients stop trusting what is revoked."""
    asked: list[tuple[object, object]] = []
    waiting = tuple(
        RevocationStatus(f"{kind}.{DOMAIN}", "AA:BB", kind, problem, "")
        for kind, problem in (("certificate", ""), ("ingress", ""), ("authority", ""), ("authority", "busy"))
    )

    def answer(request: dict[str, Any]) -> bytes:
        asked.append((request["verb"], request["args"]))
        return result(**vars_of(replace(FOUND, revocations=waiting)))

    stub_daemon(answer)
    monkeypatch.setattr("click.confirm", lambda *_words, **_options: False)
    assert cli.main(["domain", "revoke", DOMAIN]) == 1
    assert "Clients stop trusting the old certificates" in capsys.readouterr().err
    assert asked == []
    assert cli.main(["domain", "revoke", DOMAIN, f"*.Bücher.{DOMAIN}.", "--yes"]) == 0
    assert asked == [("domain.revoke", {"domain": DOMAIN, "name": f"*.xn--bcher-kva.{DOMAIN}"})]
    said = capsys.readouterr().out
    for words in ("waits for a new certificate", "waits for the ingress to take", "the authority is asked", "busy"):
        assert words in said


def test_revoking_without_a_terminal_needs_a_yes(stub_daemon, capsys) -> None:
    """The hint is the whole command."""
    stub_daemon(daemon([], FOUND))
    assert cli.main(["domain", "revoke", DOMAIN, f"a.{DOMAIN}"]) == 2
    assert f"hint: sudo flytectl domain revoke {DOMAIN} a.{DOMAIN} --yes" in capsys.readouterr().err


def test_removing_asks_too(stub_daemon, terminal, monkeypatch, capsys) -> None:
    """Its key is deleted."""
    asked: list[str] = []
    stub_daemon(daemon(asked, FOUND))
    monkeypatch.setattr("click.confirm", lambda *_words, **_options: False)
    assert cli.main(["domain", "rm", DOMAIN]) == 1
    assert "the certificate and its key are deleted" in capsys.readouterr().err
    assert cli.main(["domain", "rm", DOMAIN, "--yes"]) == 0
    assert asked == ["domain.get", "domain.get", "domain.remove"]
