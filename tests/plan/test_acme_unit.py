"""The unit that orders a certificate: what it may, what it is given, and why an order failed. Lines are lego's own."""

from __future__ import annotations

import base64
import json

import pytest

from flyted.acme import words
from flyted.contract.acme import LETS_ENCRYPT, STAGING
from flyted.contract.errors import HostFailure
from flyted.plan.facts import UnitEnd
from flyted.plan.ingress.acme_unit import Job, acme_unit, chain_of, failure, is_revoked, not_revoked, unit_name
from flyted.plan.ingress.sites import AcmeSettings

NAME = "chat.apps.example.org"
HTTP = AcmeSettings("me@example.org", LETS_ENCRYPT)
DNS = AcmeSettings("me@example.org", LETS_ENCRYPT, dns="hetzner")
REFUSED = UnitEnd("exit-code", words.EX_REFUSED)
ACME = "urn:ietf:params:acme:error:"


def test_the_unit_has_no_right() -> None:
    """A user of its own, no key but what it is given, memory for files, and a bounded time."""
    unit = acme_unit(Job(HTTP, NAME, b"KEY"), 7, {"HTTPS_PROXY": "http://proxy:3128"}, ("192.0.2.53",))
    assert unit["DynamicUser"]
    assert "User" not in unit
    assert (unit["CapabilityBoundingSet"], unit["NoNewPrivileges"], unit["ProtectSystem"]) == (0, True, "strict")
    assert [path for path, _options in unit["TemporaryFileSystem"]] == ["/run", words.FOLDER]
    assert unit["MemorySwapMax"] == 0
    assert unit["RuntimeMaxUSec"] == 900_000_000
    assert acme_unit(Job(HTTP, NAME, b"KEY", revoke="PEM"), 7, {}, ())["RuntimeMaxUSec"] == 120_000_000
    assert unit["LoadCredential"] == [("job", "/run/flyted/credentials.sock")]
    assert "HTTPS_PROXY=http://proxy:3128" in unit["Environment"]
    assert unit["StandardOutputFileDescriptor"] == 7
    assert unit_name(NAME) == unit_name(NAME) != unit_name("other.apps.example.org")
    assert "example" not in unit_name(NAME)


def test_the_job_is_shown_to_nobody() -> None:
    """It has all that lego needs; no repr has a key."""
    job = Job(DNS, f"*.{NAME}", b"ACCOUNT-KEY", b"REQUEST", {"HETZNER_API_KEY": "TOKEN"})
    assert "ACCOUNT-KEY" not in repr(job)
    assert "TOKEN" not in repr(job)
    assert json.loads(job.text()) == {
        "server": LETS_ENCRYPT, "server_ca": "", "email": "me@example.org", "account": "ACCOUNT-KEY",
        "name": f"*.{NAME}", "request": "REQUEST", "revoke": "", "dns": "hetzner",
        "variables": {"HETZNER_API_KEY": "TOKEN"},
    }  # fmt: skip


def test_the_certificate_in_the_output() -> None:
    """Its parts are put together; lines of lego's that look alike are not taken."""
    text = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n" * 300).decode()
    parts = [f"{words.OURS}{words.CERTIFICATE}{text[at : at + 3000]}" for at in range(0, len(text), 3000)]
    assert chain_of(["certificate eHh4", *parts]) == b"-----BEGIN CERTIFICATE-----\n" * 300
    for lines in ([], ["x"], [f"{words.OURS}{words.CERTIFICATE}!!"]):
        with pytest.raises(HostFailure, match="ended without one"):
            chain_of(lines)


@pytest.mark.parametrize(
    ("settings", "lines", "said", "hint"),
    [
        (HTTP, [f"[{NAME}] acme: error: 400 :: {ACME}connection :: 203.0.113.5: Fetching http://{NAME}/x: Timeout"],
         "203.0.113.5: Fetching", "port 80"),
        (HTTP, [f"[{NAME}] acme: error: 400 :: {ACME}dns :: DNS problem: NXDOMAIN looking up A for {NAME}, url: "],
         "DNS problem: NXDOMAIN looking up A for chat.apps.example.org", "make a DNS record of type A or AAAA"),
        (HTTP, [f"[{NAME}] acme: error: 403 :: {ACME}unauthorized :: Invalid response from http://{NAME}"],
         "Invalid response", "another server answers"),
        (HTTP, [f"acme: error: 429 :: POST :: https://x/new-order :: {ACME}rateLimited :: too many certificates"],
         "too many certificates", "tries again later"),
        (HTTP, [f"acme: error: 403 :: {ACME}caa :: CAA record for {NAME} prevents it"], "CAA record", "CAA record"),
        (DNS, [f"acme: error: 403 :: {ACME}unauthorized :: Incorrect TXT record"], "Incorrect TXT", "token"),
        (HTTP, [f"[{NAME}] acme: error: 400 :: {ACME}dns :: no A", f"[INFO] nonce error retry: {ACME}badNonce :: old"],
         "no A", "make a DNS record"),
        (DNS, ["error: one or more domains had a problem:",
               f"[*.{NAME}] acme: error presenting token: hetzner: 401: request failed: Unauthorized", ""],
         f"the DNS provider hetzner makes no record for {NAME}: hetzner: 401: request failed: Unauthorized",
         f"sudo flytectl domain set {NAME} --email me@example.org --dns hetzner --from-file FILE"),
        (DNS, ["2026/12/01 unrecognized DNS provider: hetzner"], "lego knows no DNS provider hetzner", "lego dnshelp"),
        (DNS, ["2026/12/01 hetzner: some credentials information are missing: HETZNER_API_KEY"],
         "hetzner wants other variables: HETZNER_API_KEY", "lego dnshelp -c hetzner"),
        (HTTP, [f"Could not create client: get directory at '{LETS_ENCRYPT}': dial tcp 192.0.2.1:443: refused"],
         "the authority acme-v02.api.letsencrypt.org cannot be reached: tcp 192.0.2.1:443: refused", "journalctl"),
        (HTTP, [f'"{LETS_ENCRYPT}": &url.Error{{"dial tcp 192.0.2.1:443: i/o timeout", err:(*url.Error)(0xc0003a)}}'],
         "cannot be reached: tcp 192.0.2.1:443: i/o timeout", "journalctl"),
        (HTTP, ["x", ""], f"no certificate for {NAME}: x", "journalctl"),
        (HTTP, [], "lego said nothing", "journalctl"),
    ],
)  # fmt: skip
def test_why_an_order_failed(settings: AcmeSettings, lines: list[str], said: str, hint: str) -> None:
    found = failure(NAME, settings, REFUSED, [*lines, "flyted-acme: lego ended with status 1"])
    assert said in found.message
    assert hint in found.hint
    assert ", url:" not in found.message
    assert "err:" not in found.message


@pytest.mark.parametrize(
    ("server", "ca", "more"),
    [
        (STAGING, "", " --staging"),
        ("https://ca.lan/dir", "PEM", " --acme-server https://ca.lan/dir --acme-server-ca FILE"),
    ],
)
def test_the_command_for_another_token_says_all_again(server: str, ca: str, more: str) -> None:
    """Else it would order from Let's Encrypt."""
    settings = AcmeSettings("me@example.org", server, server_ca=ca, dns="hetzner")
    found = failure(f"*.{NAME}", settings, REFUSED, ["acme: error presenting token: hetzner: 401"])
    command = f"sudo flytectl domain set {NAME} --email me@example.org --dns hetzner --from-file FILE"
    assert found.hint == f"if its token is wrong, give another one: {command}{more}"


@pytest.mark.parametrize(
    ("end", "lines", "said"),
    [
        (UnitEnd("exit-code", words.EX_NOLEGO), [], "lego is not installed"),
        (UnitEnd("exit-code", words.EX_NORECORD), [], f"{NAME} has no DNS record"),
        (UnitEnd("timeout", 15), [], "after 15 minutes"),
        (UnitEnd("exit-code", words.EX_CONFIG), ["flyted-acme: there is no job"], "there is no job"),
        (UnitEnd("signal", 9), [], "ended with status 9"),
        (UnitEnd("signal", 9), ["flyted-acme: certificate LS0t"], f"no certificate for {NAME}: the order ended with"),
    ],
)
def test_other_ends(end: UnitEnd, lines: list[str], said: str) -> None:
    found = failure(NAME, HTTP, end, lines)
    assert said in found.message
    assert found.hint


def test_what_a_stranger_says_moves_no_cursor() -> None:
    """An authority's words are printed on terminals; they are bounded."""
    found = failure(NAME, HTTP, REFUSED, [f"{ACME}malformed :: \x1b[2Jx" + "y" * 5000])
    assert "\x1b" not in found.message
    assert len(found.message) < 1200


@pytest.mark.parametrize(
    ("end", "lines", "said"),
    [
        (REFUSED, [f"acme: error: 403 :: POST :: https://x :: {ACME}unauthorized :: not yours"], "not yours"),
        (REFUSED, [f"get directory at '{LETS_ENCRYPT}': dial tcp 192.0.2.1:443: refused"], "cannot be reached: tcp"),
        (REFUSED, ["x", "flyted-acme: lego ended with status 1"], "lego ended with status 1"),
        (UnitEnd("exit-code", words.EX_NOLEGO), [], "lego is not installed"),
        (UnitEnd("timeout", 15), [], "did not answer within 2 minutes"),
        (UnitEnd("signal", 9), [], "ended with status 9"),
    ],
)
def test_why_a_certificate_is_not_revoked(end: UnitEnd, lines: list[str], said: str) -> None:
    """In the authority's words where there are some."""
    assert not is_revoked(end, lines)
    found = not_revoked(NAME, HTTP, end, lines)
    assert said in found.message
    assert found.hint


def test_one_that_is_revoked_already_is_done_with() -> None:
    """The answer to an earlier try may have been lost."""
    assert is_revoked(UnitEnd("success", 0), [])
    assert is_revoked(REFUSED, [f"acme: error: 400 :: POST :: https://x :: {ACME}alreadyRevoked :: it is"])
