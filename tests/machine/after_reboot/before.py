"""Before the reboot: apps that serve, sleep, are frozen and stopped, a secret. after.py looks at them."""

from __future__ import annotations

from tests.machine.kit import small, users
from tests.machine.kit.apps import serve, write
from tests.machine.kit.freezers import until_frozen
from tests.machine.kit.tokens import SOURCE, visit
from tests.machine.kit.users import alice, curl, forget_tokens, give, may_serve


def test_apps_to_come_back_to() -> None:
    """All states that an app can rest in, all of them real before the machine goes down."""
    may_serve()
    alice("flytectl", "secret", "create", "REBOOT", "-", "--replace", typed="kept over a reboot")
    for name in ("boot-serves", "boot-sleeps", "boot-stopped"):
        assert curl(serve(name))[0] == 200
    alice("flytectl", "app", "sleep", "boot-sleeps")
    alice("flytectl", "app", "stop", "boot-stopped")
    assert curl(users.serve(write("boot-frozen", scaledown=1), "--idle", "freeze"))[0] == 200
    until_frozen("boot-frozen")


def test_an_image_of_layers_to_come_back_to() -> None:
    """One that serves in a root of its own: its mount is a unit that is gone with PID 1, its layers stay."""
    assert curl(users.serve(small.app("boot-rooted", "RUN echo rooted >/www/index.html")))[1].strip() == "rooted"


def test_a_token_to_come_back_with() -> None:
    """One that is kept by its owner, one that is revoked, and an app that asks for them."""
    url = users.serve(give("boot_guarded.py", SOURCE % "boot-guarded"))
    for name in ("kept", "ended"):
        forget_tokens(f"boot-{name}")
        alice("sh", "-c", f"umask 077; flytectl token create --name boot-{name} >{name}.token")
        assert visit(url, alice("cat", f"{name}.token").stdout.strip())[0] == 200
    alice("flytectl", "token", "revoke", "boot-ended")
