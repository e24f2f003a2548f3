"""Who did what: in flyted's journal for every change, in the app's log for its own; never a value or a token."""

from __future__ import annotations

import json
import pwd
import re
import subprocess
from collections.abc import Iterator

import pytest

from flyted.contract import client
from tests.machine.kit.users import (
    EXAMPLES,
    alice,
    answer,
    by,
    forget_apps,
    forget_secrets,
    forget_tokens,
    give,
    lines_of,
    running,
    serve,
    until,
)

APP = "who"
SECRET = "WHO_KEY"
VALUE = "never-in-any-journal-8f3a"
SOURCE = (EXAMPLES / "hello.py").read_text()


@pytest.fixture(autouse=True)
def _served() -> Iterator[None]:
    """The app's first revision, made by alice in this test; no token and no secret of the tests."""
    forget_apps(APP)
    forget_secrets(SECRET)
    forget_tokens("who-ci")
    give("who.py", SOURCE.replace('"hello"', f'"{APP}"'))
    serve("who.py")
    yield
    forget_apps(APP)
    forget_secrets(SECRET)


def entries(*matches: str) -> list[dict[str, str]]:
    """The entries of flyted's own unit that have these fields."""
    subprocess.run(["journalctl", "--sync"], check=True)
    words = ["journalctl", "-u", "flyted", "-o", "json", "--all", *matches]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def last(*matches: str) -> str:
    """The newest of them, in words."""
    return entries(*matches)[-1]["MESSAGE"]


UIDS = {user.pw_name: user.pw_uid for user in pwd.getpwall()}
ALICE = f"by alice (uid {UIDS.get('alice')})"


def test_each_verb_of_an_app_names_who_did_it() -> None:
    """And the outcome; root is root."""
    found = answer("app", "get", APP)
    assert found["deployed_by"] == "alice"
    assert last("FLYTED_VERB=app.serve", f"FLYTED_APP={APP}") == (
        f"app serve {APP}: done (revision {found['revision']}), {ALICE}"
    )
    serve("who.py")
    assert last("FLYTED_VERB=app.serve", f"FLYTED_APP={APP}").startswith(f"app serve {APP}: unchanged (")
    alice("flytectl", "app", "sleep", APP)
    assert last("FLYTED_VERB=app.sleep") == f"app sleep {APP}: done, {ALICE}"
    subprocess.run(["flytectl", "app", "stop", APP], check=True)
    assert last("FLYTED_VERB=app.stop") == f"app stop {APP}: done, by root (uid 0)"
    alice("flytectl", "app", "start", APP)
    assert last("FLYTED_VERB=app.start") == f"app start {APP}: done, {ALICE}"
    by("alice", "flytectl", "app", "stop", "nothing-here")
    assert last("FLYTED_VERB=app.stop") == f"app stop nothing-here: not-found, {ALICE}"


def test_the_apps_log_shows_them() -> None:
    """As flyted's lines, in their place among the others; of another app none."""
    alice("flytectl", "app", "sleep", APP)
    subprocess.run(["flytectl", "app", "stop", APP], check=True)
    by("alice", "flytectl", "app", "stop", "nothing-here")
    subprocess.run(["journalctl", "--sync"], check=True)
    lines = [json.loads(line) for line in alice("flytectl", "logs", APP, "-n", "500", "--json").stdout.splitlines()]
    assert {line["source"] for line in lines} == {"app", "systemd", "flyted"}
    told = [line["text"] for line in lines if line["source"] == "flyted"]
    assert f"app stop {APP}: done, by root (uid 0)" in told
    assert not [text for text in told if "nothing-here" in text]
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    assert f"flyted: app sleep {APP}: done, {ALICE}" in alice("flytectl", "logs", APP, "-n", "500").stdout


def test_who_follows_the_log_sees_them_come() -> None:
    """Without asking again."""
    with running("flytectl", "logs", "-f", "-n", "0", APP) as process:
        seen = lines_of(process)
        until(lambda: bool(subprocess.run(["pgrep", "-f", f"FLYTED_APP={APP}"], check=False).returncode == 0))
        alice("flytectl", "app", "sleep", APP)
        until(lambda: any(f"flyted: app sleep {APP}: done, {ALICE}" in line for line in seen))


def test_no_program_can_put_a_line_of_flyteds_into_a_log() -> None:
    """The field counts from flyted's own unit only."""
    forged = f"MESSAGE=forged\nFLYTED_APP={APP}\nSYSLOG_IDENTIFIER=flyted\n_SYSTEMD_UNIT=flyted.service\n".encode()
    send = (
        "import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto({!r}, '/run/systemd/journal/socket')"
    )
    alice("python3", "-c", send.format(forged))
    subprocess.run(["journalctl", "--sync"], check=True)
    words = ["journalctl", "-n", "20", f"FLYTED_APP={APP}"]
    assert "forged" in subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "forged" not in alice("flytectl", "logs", APP, "-n", "500").stdout


def test_secrets_and_tokens_by_name_never_by_value() -> None:
    """Made, replaced, taken away: the name is there, the value and the token's text nowhere in the journal."""
    alice("flytectl", "secret", "create", SECRET, "-", typed=VALUE)
    assert last(f"FLYTED_SECRET={SECRET}") == f"secret create {SECRET}: done, {ALICE}"
    alice("flytectl", "secret", "create", SECRET, "-", "--replace", typed=VALUE + "2")
    assert last(f"FLYTED_SECRET={SECRET}") == f"secret create {SECRET}: replaced, {ALICE}"
    by("alice", "flytectl", "secret", "create", SECRET, "-", typed=VALUE)
    assert last(f"FLYTED_SECRET={SECRET}") == f"secret create {SECRET}: already-exists, {ALICE}"
    alice("flytectl", "secret", "delete", "--yes", SECRET)
    assert last(f"FLYTED_SECRET={SECRET}") == f"secret delete {SECRET}: done, {ALICE}"
    token = alice("flytectl", "token", "create", "--name", "who-ci").stdout.strip()
    made = entries("FLYTED_VERB=token.create", "FLYTED_NAME=who-ci")[-1]
    assert made["MESSAGE"] == f"token create {made['FLYTED_TOKEN']}: done (name who-ci), {ALICE}"
    alice("flytectl", "token", "revoke", token)
    ended = entries("FLYTED_VERB=token.revoke")[-1]
    assert ended["FLYTED_TOKEN"] == made["FLYTED_TOKEN"]
    everything = subprocess.run(["journalctl", "-o", "export", "--all"], capture_output=True, check=True).stdout
    assert VALUE.encode() not in everything
    assert token.encode() not in everything


def test_what_comes_through_the_gateway_is_its_tokens_owner() -> None:
    """On its socket nobody has a right but by a token; which one it was is told by its ID."""
    token = alice("flytectl", "token").stdout.strip()
    minted = entries("FLYTED_VERB=token.mint")[-1]["FLYTED_TOKEN"]
    args = {"project": "default", "domain": "development", "name": APP}
    client.call("app.sleep", args, token=token, path=client.API_SOCKET)
    assert last("FLYTED_VERB=app.sleep") == f"app sleep {APP}: done, {ALICE[:-1]}, token {minted})"


def test_who_deletes_is_known_afterwards() -> None:
    """The next app of the name begins its log with it."""
    subprocess.run(["flytectl", "app", "delete", "--yes", "--data", APP], check=True)
    assert last(f"FLYTED_APP={APP}") == f"app delete {APP}: done, by root (uid 0)"
    serve("who.py")
    said = [line for line in alice("flytectl", "logs", APP, "-n", "500").stdout.splitlines() if " flyted: " in line]
    deleted = next(n for n, line in enumerate(said) if "app delete" in line and "by root" in line)
    assert any("app serve" in line for line in said[deleted:])


def test_who_replaces_somebody_elses_app_is_told_so() -> None:
    """And the app has another name on it then; not where nothing changes, and not for one's own."""
    give("who.py", SOURCE.replace('"hello"', f'"{APP}"') + "# another\n")
    done = subprocess.run(
        ["flytectl", "serve", "--as", "alice", "/home/alice/who.py"], capture_output=True, text=True, check=True
    )
    assert re.search(r"^note: revision \d+ of this app was deployed by alice$", done.stderr, re.MULTILINE), done.stderr
    assert answer("app", "get", APP)["deployed_by"] == "root"
    assert "deployed by root" in alice("flytectl", "app", "get", APP).stdout
    give("who.py", SOURCE.replace('"hello"', f'"{APP}"'))
    assert "was deployed by root" in alice("flytectl", "serve", "who.py").stderr
    assert "was deployed by" not in alice("flytectl", "serve", "who.py").stderr
