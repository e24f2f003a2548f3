"""The user's story, step by step, as alice types it. Each test is a step and needs those before it.

A step that is run again first takes back what it did.
"""

from __future__ import annotations

import filecmp
import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from flyted.contract.version import VERSION
from tests.machine.kit.users import (
    EXAMPLES,
    alice,
    answer,
    by,
    curl,
    forget_secrets,
    give,
    join_group,
    lines_of,
    refused,
    running,
    serve,
    until,
)

APP = "authenticated-api"
KEY = "my-secret-api-key-12345"
NEW_KEY = "another-key-67890"


@pytest.fixture(scope="module")
def url() -> str:
    """Where the app answers: 443 unless something else had it."""
    return str(answer("app", "get", APP)["url"])


def bearer(key: str) -> tuple[str, str]:
    return "-H", f"Authorization: Bearer {key}"


def test_the_first_error_says_how_to_join() -> None:
    """Neither alice nor mallory is in the group: the error says what to type."""
    by("alice", "sudo", "deluser", "alice", "flyted")
    for user in ("alice", "mallory"):
        said = refused("flytectl", "app", "ls", status=6, user=user)
        assert "only members of group 'flyted'" in said
        assert "hint: sudo adduser $USER flyted" in said
    assert by("alice", "flytectl", "doctor").returncode == 1
    join_group()
    assert "no apps in project 'default'" in alice("flytectl", "app", "ls").stderr


def test_the_certificate_authority_is_trusted_on_request() -> None:
    """Not by itself; ``ca install`` prints the fingerprint that openssl prints, and is repeatable."""
    alice("sudo", "flytectl", "ca", "uninstall")
    said = refused("flytectl", "ca", "install", status=6)
    assert "hint: sudo flytectl ca install" in said
    assert answer("ca", "show")["installed"] is None
    shown = alice("sudo", "flytectl", "ca", "install").stdout
    pem = alice("flytectl", "ca", "show", "--pem").stdout
    openssl = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256"], input=pem, capture_output=True, text=True, check=True
    )
    assert openssl.stdout.strip().split("=")[1] in shown
    assert alice("sudo", "flytectl", "ca", "install").stdout == shown
    assert answer("ca", "show")["installed"] == "/usr/local/share/ca-certificates/flyted.crt"


def test_a_secret_is_stored() -> None:
    """The hint about history comes for an argument; a second create is refused and changes nothing."""
    forget_secrets("API_KEY")
    done = alice("flytectl", "secret", "create", "API_KEY", KEY)
    assert "history" in done.stderr
    assert KEY not in done.stdout + done.stderr
    before = answer("secret", "get", "API_KEY")
    assert "--replace" in refused("flytectl", "create", "secret", "API_KEY", "x", status=5)
    assert answer("get", "secret", "API_KEY") == before


def test_no_command_shows_a_value() -> None:
    """``ls`` and ``get`` know key, scope, generation and dates."""
    for words in (["ls"], ["ls", "--json"], ["get", "API_KEY"], ["get", "API_KEY", "--json"], ["ls", "--all"]):
        shown = alice("flytectl", "secret", *words).stdout
        assert "API_KEY" in shown
        assert KEY not in shown


def test_every_way_to_give_a_value_works() -> None:
    """File, standard input and scope; each can be listed and deleted, in both word orders."""
    forget_secrets("FILED", "PIPED")
    forget_secrets("SCOPED", scope=("-p", "p1", "-d", "production"))
    give("value.txt", "from a file\n")
    alice("flytectl", "secret", "create", "FILED", "--from-file", "value.txt")
    alice("flytectl", "create", "secret", "PIPED", "-", typed="piped\n")
    alice("flytectl", "secret", "create", "SCOPED", "v", "-p", "p1", "-d", "production")
    keys = {s["key"] for s in answer("secret", "ls", "--all")["secrets"]}
    assert keys == {"API_KEY", "FILED", "PIPED", "SCOPED"}
    assert {s["key"] for s in answer("secret", "ls")["secrets"]} == keys - {"SCOPED"}
    alice("flytectl", "secret", "delete", "--yes", "FILED")
    alice("flytectl", "delete", "secret", "-y", "PIPED")
    refused("flytectl", "secret", "delete", "--yes", "SCOPED", status=4)
    alice("flytectl", "secret", "delete", "--yes", "SCOPED", "-p", "p1", "-d", "production")
    assert {s["key"] for s in answer("secret", "ls", "--all")["secrets"]} == {"API_KEY"}


def test_the_documents_app_is_served() -> None:
    """``flytectl serve basic_auth.py``: progress on stderr, the URL as the last line of stdout."""
    give("basic_auth.py")
    assert filecmp.cmp(EXAMPLES / "basic_auth.py", "/home/alice/basic_auth.py", shallow=False)
    done = alice("flytectl", "serve", "basic_auth.py")
    assert re.fullmatch(rf"https://{APP}\.apps\.localhost(:\d+)?", done.stdout.strip().split("\n")[-1])
    assert done.stderr.strip()


def test_serving_it_again_changes_nothing() -> None:
    """The same file is the same revision; ``-q`` prints nothing but the URL."""
    before = answer("app", "get", APP)
    done = alice("flytectl", "serve", "-q", "basic_auth.py")
    assert (done.stdout, done.stderr) == (f"{before['url']}\n", "")
    again = json.loads(alice("flytectl", "serve", "basic_auth.py", "env", "--json").stdout)["apps"]
    assert [(a["name"], a["changed"], a["revision"]) for a in again] == [(APP, False, before["revision"])]


def test_it_answers_over_https_as_the_app_says(url: str) -> None:
    """With the key 200 and the document's answer; without or with another one 401 or 403; the rest is open."""
    status, body = curl(f"{url}/protected", *bearer(KEY))
    assert (status, json.loads(body)) == (200, {"message": "This is protected", "user": KEY})
    assert curl(f"{url}/protected")[0] in (401, 403)
    assert curl(f"{url}/protected", *bearer("wrong"))[0] == 403
    assert json.loads(curl(f"{url}/public")[1]) == {"message": "This is public"}
    assert curl(f"{url}/docs")[0] == 200
    assert json.loads(curl(f"{url}/openapi.json")[1])["info"]["title"] == "Authenticated API"


def test_plain_http_leads_to_https(url: str) -> None:
    """Port 80 (or the one taken instead) answers with a redirect to the same host."""
    plain = url.replace("https://", "http://")
    if plain.count(":") == 1:
        assert alice("curl", "-sS", "-o", "/dev/null", "-w", "%{redirect_url}", f"{plain}/x").stdout == f"{url}/x"


def test_the_app_is_shown_with_what_systemd_knows(url: str) -> None:
    """``app ls`` and ``app get`` in text and JSON; the units that they name are real."""
    assert re.search(
        rf"^{APP} +running +\d+ +\d+ \w+ +{re.escape(url)}$", alice("flytectl", "app", "ls").stdout, re.MULTILINE
    )
    shown = [alice("flytectl", *words, APP).stdout for words in (("get", "app"), ("app", "get"))]
    first, second = (re.sub(r"\(\d+ s ago\)", "", text) for text in shown)
    assert first == second
    app = answer("app", "get", APP)
    assert (app["state"], app["wanted"], app["memory_bytes"]) == ("running", "started", 512 << 20)
    assert app["secrets"] == [{"key": "API_KEY", "env": "API_KEY", "file": ""}]
    assert {u["name"].rpartition(".")[2] for u in app["units"]} == {"socket", "service"}
    for unit in app["units"]:
        subprocess.run(["systemctl", "is-active", "--quiet", unit["name"]], check=True)


def test_its_log_is_shown_and_followed(url: str) -> None:
    """``logs`` has the app's lines; ``-f`` shows the next one as it comes and ends quietly with Ctrl-C."""
    assert "/protected" in alice("flytectl", "logs", APP, "-n", "200").stdout
    line = json.loads(alice("flytectl", "logs", APP, "-n", "1", "--json").stdout)
    assert set(line) == {"app", "time", "revision", "replica", "source", "text"}
    with running("flytectl", "logs", APP, "-f", "-n", "0") as following:
        seen = lines_of(following)
        until(lambda: curl(f"{url}/followed")[0] == 404 and any("/followed" in line for line in seen))
    assert following.returncode == 128 + signal.SIGINT
    assert not [line for line in seen if "Traceback" in line or line.startswith("flytectl")]


def test_the_journal_has_its_output_under_its_name() -> None:
    """``journalctl -t authenticated-api`` needs nothing of ours."""
    done = subprocess.run(["journalctl", "-t", APP, "-o", "cat"], capture_output=True, text=True, check=True)
    assert "/protected" in done.stdout
    assert KEY not in done.stdout


def test_it_sleeps_and_the_next_request_wakes_it(url: str) -> None:
    """``sleep`` stops the service; the request that finds it asleep is held and answered."""
    assert alice("flytectl", "app", "sleep", APP).stdout == f"{APP}: sleeping\n"
    assert answer("app", "get", APP)["state"] == "sleeping"
    assert curl(f"{url}/protected", *bearer(KEY))[0] == 200
    until(lambda: answer("app", "get", APP)["state"] == "running")


def test_stopped_means_stopped(url: str) -> None:
    """``stop``: 503, and requests do not wake it; ``start`` brings it back, with its secret."""
    alice("flytectl", "app", "stop", APP)
    assert [curl(f"{url}/public")[0] for _ in range(3)] == [503] * 3
    assert answer("app", "get", APP)["state"] == "stopped"
    alice("flytectl", "app", "start", APP)
    assert curl(f"{url}/protected", *bearer(KEY))[0] == 200


def test_a_replaced_secret_reaches_the_app_by_rolling(url: str) -> None:
    """``--replace --roll`` restarts the users of a secret: the new key opens, the old one does not."""
    done = alice("flytectl", "secret", "create", "API_KEY", "-", "--replace", "--roll", typed=f"{NEW_KEY}\n")
    assert APP in done.stdout
    assert curl(f"{url}/protected", *bearer(NEW_KEY))[0] == 200
    assert curl(f"{url}/protected", *bearer(KEY))[0] == 403
    assert answer("secret", "get", "API_KEY")["generation"] > 1


def test_doctor_and_version_find_nothing_wrong() -> None:
    """A fresh installation that serves an app is healthy; a warning is no failure."""
    found = answer("doctor")
    assert found["ok"], found
    assert {c["name"]: c["ok"] for c in found["checks"]}.items() >= {
        "group": True,
        "daemon": True,
        "trust": True,
    }.items()
    assert answer("version") == {"client": VERSION, "daemon": VERSION, "protocol": 1, "match": True}


def test_completion_knows_the_names() -> None:
    """What the shells ask is answered with the apps and secrets that exist."""
    ask = "_FLYTECTL_COMPLETE=bash_complete COMP_CWORD=3 COMP_WORDS='flytectl {} ' flytectl"
    assert alice("sh", "-c", ask.format("app stop")).stdout == f"plain,{APP}\n"
    assert alice("sh", "-c", ask.format("secret delete")).stdout == "plain,API_KEY\n"


def test_deleted_means_gone(url: str) -> None:
    """The app's units, files and host name are gone; its secret stays until it is deleted too."""
    by("alice", "flytectl", "secret", "create", "API_KEY", "-", typed=KEY)  # unless it is there
    serve("basic_auth.py")
    assert alice("flytectl", "delete", "app", "-y", APP).stdout == f"{APP}: deleted; its data is kept\n"
    assert curl(f"{url}/public")[0] == 421
    refused("flytectl", "app", "get", APP, status=4)
    units = subprocess.run(
        ["systemctl", "list-units", "--all", "--no-legend", f"flyted-app-{APP}*"], capture_output=True, check=True
    )
    assert units.stdout == b""
    alice("flytectl", "secret", "delete", "--yes", "API_KEY")
    assert "no secrets" in alice("flytectl", "secret", "ls").stderr


def test_trust_can_be_taken_back() -> None:
    """``ca uninstall`` leaves nothing of the certificate in the system's bundle; and may be repeated."""
    pem = alice("flytectl", "ca", "show", "--pem").stdout.split("\n")[1]
    alice("sudo", "flytectl", "ca", "uninstall")
    assert pem not in Path("/etc/ssl/certs/ca-certificates.crt").read_text()
    assert answer("ca", "show")["installed"] is None
    assert "did not trust" in alice("sudo", "flytectl", "ca", "uninstall").stderr
    alice("sudo", "flytectl", "ca", "install")  # other tests call apps by their names
