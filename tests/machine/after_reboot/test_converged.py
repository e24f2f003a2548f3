"""After a reboot everything is as it was wanted: transient units are gone, the store is not."""

from __future__ import annotations

import subprocess

from tests.machine.people import alice, answer, curl, until
from tests.machine.test_zz_before_reboot import KEY

APP = "authenticated-api"


def test_the_app_is_there_and_sleeps() -> None:
    """Its socket listens, nothing of it runs: a reboot starts no app that nobody asks for."""
    until(lambda: subprocess.run(["systemctl", "is-active", "--quiet", "flyted"], check=False).returncode == 0)
    app = answer("app", "get", APP)
    assert (app["state"], app["wanted"]) == ("sleeping", "started")


def test_the_first_request_wakes_it_with_its_secret() -> None:
    """The identity was unsealed, the secret opened, the image found, the certificate still trusted."""
    url = answer("app", "get", APP)["url"]
    status, body = curl(f"{url}/protected", "-H", f"Authorization: Bearer {KEY}")
    assert (status, "This is protected" in body) == (200, True)
    assert answer("app", "get", APP)["state"] == "running"


def test_nothing_failed_on_the_way() -> None:
    """No unit of ours is failed, and the identity was not made anew."""
    failed = subprocess.run(
        ["systemctl", "list-units", "--failed", "--plain", "--no-legend", "flyted*"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert failed.stdout == ""
    assert {c["name"] for c in answer("doctor")["checks"] if c["ok"] is False} == set()
    assert "API_KEY" in alice("flytectl", "secret", "ls").stdout
