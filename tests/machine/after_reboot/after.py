"""After the reboot: transient units are gone with the old PID 1, so flyted made them anew from what is wanted."""

from __future__ import annotations

import subprocess

import pytest

from tests.machine.kit import small
from tests.machine.kit.apps import state
from tests.machine.kit.tokens import visit
from tests.machine.kit.users import alice, answer, curl, until


def url(name: str) -> str:
    return str(answer("app", "get", name)["url"])


def test_the_machine_is_well() -> None:
    """Everything came up by itself: no unit failed, and flyted answers."""
    units = ["flyted.service", "flyted-ingress.service", "flyted.socket", "flyted-credentials.socket"]
    done = subprocess.run(["systemctl", "is-active", *units], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["active"] * len(units)
    failed = subprocess.run(
        ["systemctl", "list-units", "--failed", "--no-legend", "flyted*"], capture_output=True, text=True, check=True
    )
    assert failed.stdout == ""
    cycles = subprocess.run(
        ["journalctl", "-b", "-q", "-g", "ordering cycle"], capture_output=True, text=True, check=False
    )
    assert cycles.stdout == "", "systemd leaves out a unit to break a cycle"


def test_a_frozen_app_did_not_hold_the_shutdown() -> None:
    """It was thawed first, so that it could end by itself."""
    done = subprocess.run(
        ["journalctl", "-q", "-u", "flyted-app-boot-frozen*", "-o", "cat"], capture_output=True, text=True, check=True
    )
    assert "Finished server process" in done.stdout
    assert "timed out" not in done.stdout


@pytest.mark.parametrize("name", ["boot-serves", "boot-sleeps", "boot-frozen"])
def test_an_app_answers_again(name: str) -> None:
    """Nobody deployed it again: the first request after the boot is answered, at the same URL."""
    until(lambda: curl(url(name))[0] == 200)
    assert state(name) == "running"


def test_an_image_of_layers_is_whole() -> None:
    """Its app answers in the same root; a deploy takes all of its layers."""
    until(lambda: curl(url("boot-rooted"))[0] == 200)
    assert curl(url("boot-rooted"))[1].strip() == "rooted"
    image = answer("app", "get", "boot-rooted")["image"]["hash"]
    done = alice("flytectl", "serve", small.app("boot-again", "RUN echo rooted >/www/index.html"))
    assert "step " not in done.stderr
    assert answer("app", "get", "boot-again")["image"]["hash"] == image
    alice("flytectl", "app", "delete", "--yes", "--data", "boot-rooted", "boot-again")


def test_a_stopped_app_stays_stopped() -> None:
    """What its owner stopped does not come back by a reboot."""
    assert state("boot-stopped") == "stopped"
    assert curl(url("boot-stopped"))[0] == 503


def test_secrets_are_there() -> None:
    """The identity was opened again: the secret is listed, undamaged."""
    secrets = {s["key"]: s for s in answer("secret", "ls")["secrets"]}
    assert secrets["REBOOT"]["damaged"] is False


def test_tokens_count_as_before() -> None:
    """The ingress's tables were made anew: who had a token gets in, the one that was revoked and strangers do not."""
    where = url("boot-guarded")
    kept, ended = (alice("cat", f"{name}.token").stdout.strip() for name in ("kept", "ended"))
    assert [visit(where, token)[0] for token in ("", ended, kept)] == [401, 401, 200]
    alice("flytectl", "token", "revoke", "boot-kept")
    alice("flytectl", "app", "delete", "--yes", "--data", "boot-guarded")


def test_the_certificate_is_still_trusted() -> None:
    """The CA is the one that was installed before: curl asks for nothing new, and apps can go."""
    assert curl(url("boot-serves"))[0] == 200
    for name in ("boot-serves", "boot-sleeps", "boot-frozen", "boot-stopped"):
        alice("flytectl", "app", "delete", "--yes", "--data", name)
