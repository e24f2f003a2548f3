"""flytectl doctor against a machine that has something wrong."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from flytectl.checks import names_hint
from flyted.daemon.doctor import calls, listens, names
from flyted.layers.words import BASE
from flyted.plan.ingress.state import Listen
from tests.machine.kit.settings import SETTINGS, settings
from tests.machine.kit.users import by, environment


def test_a_name_server_that_apps_cannot_ask_is_named() -> None:
    """A resolver on 127.0.0.1 is closed to apps: doctor says so, with what to do, and is content when it is gone."""
    file = Path("/etc/resolv.conf")
    before = file.read_text()
    try:
        file.write_text("nameserver 127.0.0.1\n")
        bad = json.loads(by("alice", "flytectl", "doctor", "--json").stdout)["checks"]
    finally:
        file.write_text(before)
    good = json.loads(by("alice", "flytectl", "doctor", "--json").stdout)["checks"]
    found, later = ({c["name"]: c for c in checks}["name servers"] for checks in (bad, good))
    assert found["ok"] is False
    assert "127.0.0.1" in found["detail"]
    assert "systemd-resolved" in found["hint"]
    assert later["ok"] is True


def test_right_after_newgrp_nothing_is_wrong_with_the_group() -> None:
    """README's own order: adduser, newgrp, doctor. newgrp(1) makes the group the effective one, and only that."""
    done = subprocess.run(
        ["setpriv", "--reuid=alice", "--regid=flyted", "--clear-groups", "--", "flytectl", "doctor", "--json"],
        cwd="/home/alice", env=environment("alice"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert found["group"]["ok"] is True


@pytest.mark.parametrize("user", ["alice", "root"])
def test_bad_settings_are_told_by_every_command(user: str) -> None:
    """The daemon ends with a reason, which systemd keeps: doctor shows it to users who may read no journal."""
    with settings('[ingress]\nlisten = "192.0.2.1"'):
        found = json.loads(by(user, "flytectl", "doctor", "--json").stdout)
        said = by(user, "flytectl", "app", "ls").stderr
    (daemon,) = [check for check in found["checks"] if check["name"] == "daemon"]
    assert found["ok"] is False
    for text in (daemon["detail"], said):
        assert (
            f'it cannot start: {SETTINGS}: ingress.listen must be a list of IP addresses, such as ["127.0.0.1"' in text
        )
    answered = {c["name"]: c for c in json.loads(by(user, "flytectl", "doctor", "--json").stdout)["checks"]}
    assert answered["daemon"]["detail"].endswith(" answers")
    assert "on 127.0.0.1, ::1: open to this machine only" in answered["ingress"]["detail"]


@pytest.mark.parametrize(
    ("addresses", "ok", "words"),
    [
        (("127.0.0.1", "::1"), True, "open to this machine only"),
        (("0.0.0.0",), True, "on 0.0.0.0: open to your network"),
        (("192.168.50.1", "127.0.0.1"), True, "on 192.168.50.1, 127.0.0.1: open to your network"),
        (("192.168.50.1",), None, "not on this machine's loopback"),
    ],
)
def test_whom_the_ingress_is_open_to(addresses: tuple[str, ...], ok: bool | None, words: str) -> None:
    """The addresses by name, and a warning where flyte on this machine cannot reach its own API."""
    check = listens(Listen(addresses=addresses))
    assert check.ok is ok
    assert words in check.detail


def test_names_below_another_domain_are_the_networks_matter() -> None:
    """libnss-myhostname knows *.localhost only: for others the hint is an entry in the DNS."""
    assert "libnss-myhostname" in names_hint("apps.localhost")
    hint = names_hint("apps.home.lan")
    assert "libnss" not in hint
    assert "point *.apps.home.lan to an address of this machine" in hint


@pytest.mark.parametrize(
    ("servers", "ok", "named"),
    [
        (("127.0.0.53",), True, ""),
        (("192.0.2.1", "192.0.2.2"), True, ""),
        (("192.0.2.1", "2001:db8::1"), None, "2001:db8::1"),
        ((), True, ""),
        (("127.0.0.1", "192.0.2.1"), None, "127.0.0.1"),
        (("127.0.0.1", "::1"), False, "127.0.0.1, ::1"),
        (("168.63.129.16",), False, "168.63.129.16"),
    ],
)
def test_name_servers_that_apps_cannot_ask_are_named(servers: tuple[str, ...], ok: bool | None, named: str) -> None:
    """None left is a fault, some left a warning; the hint says what to type."""
    check = names(servers)
    assert check.ok is ok
    assert named in check.detail
    assert ok or "systemd-resolved" in check.hint


@pytest.mark.parametrize(
    ("socket", "here", "used", "ok", "words"),
    [
        ("active", True, True, True, "apps can call"),
        ("active", False, True, False, "the ingress began without it"),
        ("inactive", True, True, False, "flyted-calls.socket is inactive"),
        ("", False, False, None, "flyted-calls.socket is not there"),
    ],
)
def test_a_listener_for_calls_that_is_missing_is_named(
    socket: str, here: bool, used: bool, ok: bool | None, words: str
) -> None:
    """A fault if an app needs it, else a warning."""
    check = calls(socket, here=here, used=used)
    assert check.ok is ok
    assert words in check.detail
    assert ok or "systemctl restart flyted-ingress" in check.hint


def test_an_ingress_without_calls_is_found() -> None:
    """The socket was stopped, then the ingress began without it; the hint is what helps."""

    def found() -> dict[str, object]:
        checks = json.loads(by("alice", "flytectl", "doctor", "--json").stdout)["checks"]
        return dict(next(check for check in checks if check["name"] == "calls"))

    assert found()["ok"] is True
    try:
        subprocess.run(["systemctl", "stop", "flyted-calls.socket"], check=True)
        assert "flyted-calls.socket is inactive" in str(found()["detail"])
        subprocess.run(["systemctl", "mask", "--runtime", "flyted-calls.socket"], check=True)
        subprocess.run(["systemctl", "restart", "flyted-ingress"], check=True)
        assert "apps cannot call each other" in str(found()["detail"])
    finally:
        subprocess.run(["systemctl", "unmask", "--runtime", "flyted-calls.socket"], check=True)
        subprocess.run(["systemctl", "restart", "flyted-ingress"], check=True)
    assert found()["ok"] is True


def test_a_clash_with_the_owners_of_layers_is_named() -> None:
    """Subordinate ids that somebody has been given among those of layers; without it the machine is fit."""
    file = Path("/etc/subuid")
    before = file.read_text() if file.exists() else ""
    try:
        file.write_text(f"{before}mallory:{BASE}:65536\n")
        bad = json.loads(by("alice", "flytectl", "doctor", "--json").stdout)["checks"]
    finally:
        file.write_text(before)
    good = json.loads(by("alice", "flytectl", "doctor", "--json").stdout)["checks"]
    found, later = ({c["name"]: c for c in checks}["images"] for checks in (bad, good))
    assert (found["ok"], "mallory has user or group ids" in found["detail"]) == (False, True)
    assert later["ok"] is not False
