"""The daemon's whole process in memory: its parts as its own main module puts them together, over its real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.app import SecretUse, to_dict
from flyted.contract.errors import FlytedError, InvalidInput, NotFound, PermissionRefused, SecretNotFound
from flyted.contract.version import VERSION
from flyted.daemon import state as state_module
from flyted.daemon.settings import Settings
from flyted.host import sockets
from tests.daemon.life import BASE
from tests.daemon.process import Process, main_module, serve
from tests.values import spec

SECRET = {"project": "", "domain": "", "key": "KEY"}
NAMED = {"project": "", "domain": "", "name": "web"}
root_only = pytest.mark.skipif(os.getuid() != 0, reason="systemd asks as root")


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """A new machine."""
    found = Process(tmp_path, monkeypatch)
    yield found
    found.close()


def test_a_daemon_says_that_it_is_ready_serves_apps_and_ends_at_sigterm(process: Process) -> None:
    """Its first pass is over by then; at the end it says that it stops."""

    def story() -> None:
        assert process.notified.recv(100) == b"READY=1"
        assert process.ask("version")["version"] == VERSION
        assert serve(process)["state"] == "running"
        assert [each["name"] for each in process.ask("app.list", project="", domain="")["apps"]] == ["web"]
        assert process.ask("gateway.show")["ca_file"] == str(process.folder / "ca.pem")
        assert process.ask("app.get", **NAMED)["spec"]["key"]["name"] == "web"
        assert process.ask("app.check", spec=to_dict(spec("b", python_env=str(process.folder / "env")))) == {}
        assert process.ask("app.logs", **NAMED, lines=5, follow=False) == {}
        with pytest.raises(InvalidInput, match="at most 10000 lines"):
            process.ask("app.logs", **NAMED, lines=10_001, follow=False)
        assert process.ask("app.stop", **NAMED)["state"] == "stopped"
        with pytest.raises(InvalidInput, match="is not running"):
            process.ask("app.sleep", **NAMED)
        assert process.ask("app.delete", **NAMED, keep_data=True)["name"] == "web"

    process.beside(story)
    assert process.notified.recv(100) == b"STOPPING=1"
    assert (process.folder / "ca.pem").read_text().startswith("-----BEGIN CERTIFICATE")


def test_the_doctor_looks_at_everything(process: Process) -> None:
    """What is fine, what is not, and what to type."""

    def story() -> None:
        serve(process)
        found = {each["name"]: each for each in process.ask("doctor")["checks"]}
        assert found["secret store"]["detail"] == "0 stored, all intact"
        assert (found["recovery"]["ok"], found["disk"]["ok"], found["apps"]["ok"]) == (True, True, True)
        assert (found["ingress"]["ok"], found["ingress"]["detail"]) == (False, "flyted-ingress is inactive")
        assert "driver 580.95.05: 1 × NVIDIA L40S" in found["gpu"]["detail"]
        process.world.ingress_unit = "active"
        found = {each["name"]: each for each in process.ask("doctor")["checks"]}
        assert found["ingress"]["detail"].endswith("open to this machine only")

    process.beside(story)


def test_the_doctor_asks_mirrors_when_it_is_asked(process: Process) -> None:
    """Never before, and once for all who ask meanwhile. Without mirrors no unit is run."""

    def story() -> None:
        process.ask("version")
        assert process.world.layers.checked == 0
        with ThreadPoolExecutor(3) as clients:
            asked = list(clients.map(lambda _: process.ask("doctor")["checks"], range(3)))
        for checks in asked:
            (found,) = [each for each in checks if each["name"].startswith("mirror")]
            assert found == {
                "name": "mirror ghcr.io",
                "ok": True,
                "detail": "it does, in place of ghcr.io",
                "hint": "",
            }
        assert 1 <= process.world.layers.checked <= 3
        process.ask("doctor")
        assert process.world.layers.checked >= 2

    process.beside(story, Settings(mirrors={"ghcr.io": "https://mirror.example.org"}))


@root_only
def test_gpus_are_listed_with_their_holder(process: Process) -> None:
    """The app that was served on one has it."""

    def story() -> None:
        (free,) = process.ask("gpu.list")["gpus"]
        assert (free["state"], free["holders"]) == ("free", [])
        process.world.credential = _asked(process)
        process.world._up.set()
        assert serve(process, gpu_count=1)["state"] == "running"
        (held,) = process.ask("gpu.list")["gpus"]
        assert (held["state"], [each["app"] for each in held["holders"]]) == ("held", ["web"])
        assert process.ask("app.get", **NAMED)["app"]["gpu"]["devices"][0]["uuid"] == "GPU-1"

    process.beside(story)


def _asked(process: Process) -> Callable[[str, str], Any]:
    async def asked(unit: str, name: str) -> bytes:
        return await asyncio.to_thread(process.credential, unit, name)

    return asked


def test_secrets_are_kept_listed_and_forgotten(process: Process) -> None:
    """No verb tells a value."""

    def story() -> None:
        with pytest.raises(InvalidInput, match="must not be empty"):
            process.ask("secret.create", **SECRET, replace=False, roll=False, bulk=b"")
        made = process.ask("secret.create", **SECRET, replace=False, roll=False, bulk=b"value")
        assert (made["secret"]["key"], made["rolled"]) == ("KEY", [])
        scoped = {**SECRET, "domain": "development"}
        process.ask("secret.create", **scoped, replace=False, roll=False, bulk=b"mine")
        listed = process.ask("secret.list", project="", domain="", all=True)["secrets"]
        assert [(each["key"], each["domain"]) for each in listed] == [("KEY", ""), ("KEY", "development")]
        assert len(process.ask("secret.list", project="", domain="", all=False)["secrets"]) == 1
        serve(process, secrets=(SecretUse("KEY", env="KEY"),))
        assert process.ask("secret.get", **scoped)["apps"] == ["web"]
        other = process.ask("secret.get", **SECRET)
        assert (other["apps"], other["images"], other["settings"]) == ([], [], [])
        again = process.ask("secret.create", **scoped, replace=True, roll=True, bulk=b"newer")
        assert again["rolled"] == ["web"]
        assert process.ask("app.get", **NAMED)["app"]["revision"] == 2
        process.world.dying.add("web")
        with pytest.raises(
            FlytedError, match="the secret is stored, but not every app was restarted with it: web: revision 3"
        ):
            process.ask("secret.create", **scoped, replace=True, roll=True, bulk=b"newest")
        assert process.ask("secret.delete", **SECRET)["key"] == "KEY"
        with pytest.raises(SecretNotFound):
            process.ask("secret.get", **SECRET)
        process.ask("secret.create", project="", domain="", key="INDEX", replace=False, roll=False, bulk=b"value")
        process.world.dying.clear()
        layer = {"pipPackages": {"packages": ["httpx"], "secretMounts": [{"key": "INDEX", "envVar": "TOKEN"}]}}
        process.world.build_s = 0.01
        serve(process, image={"spec": {"baseImage": BASE, "layers": [layer]}}, python_env="")
        found = process.ask("secret.get", project="", domain="", key="INDEX")
        assert (found["apps"], found["images"]) == ([], ["web"])

    process.beside(story)


@pytest.mark.parametrize("verb", ["secret.identity", "secret.accept-rollback", "secret.rotate"])
def test_what_is_for_root_is_for_root(process: Process, verb: str) -> None:
    """The machine's key and its store as a whole."""

    def story() -> None:
        if os.getuid() != 0:
            with pytest.raises(PermissionRefused, match=f"{verb} is for root"):
                process.ask(verb)
        elif verb == "secret.accept-rollback":
            assert process.ask(verb) == {}
        else:
            assert process.ask(verb)["recipient"].startswith("age1")

    process.beside(story)


@root_only
def test_a_starting_unit_gets_its_own_credentials_and_no_others(process: Process) -> None:
    """Its secrets and their sums, the ingress its certificate; anybody else nothing at all."""

    def story() -> None:
        process.ask("secret.create", **SECRET, replace=False, roll=False, bulk=b"value")
        serve(process, secrets=(SecretUse("KEY", env="KEY"),))
        unit = "flyted-app-web-r1-0.service"
        assert process.credential(unit, "s0") == b"value"
        assert process.credential(unit, "sums").startswith(b'{"s0":[5,')
        assert process.credential(unit, "s1") == b""
        assert process.credential("flyted-app-other-r1-0.service", "s0") == b""
        assert process.credential("flyted-ingress.service", "site.pem").startswith(b"-----BEGIN")
        process.ask("secret.delete", **SECRET)
        assert process.credential(unit, "sums") == b""
        assert process.credential(unit, "s0") == b""
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(process.folder / "credentials.sock"))
            assert stranger.recv(100) == b""

    process.beside(story)


def test_who_is_not_root_gets_no_credential(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever address it asks from: the kernel's word counts."""
    monkeypatch.setattr("flyted.daemon.secrets.credentials.peer", lambda _conn: sockets.Peer(7, 1001, 1001))

    def story() -> None:
        assert process.credential("flyted-ingress.service", "site.pem") == b""

    process.beside(story)


def test_the_size_of_what_an_app_keeps_is_for_apps_that_are_known(process: Process) -> None:
    """One that has no folder yet has no size."""

    def story() -> None:
        with pytest.raises(NotFound):
            process.ask("app.data", **NAMED)
        serve(process)
        found = process.ask("app.data", **NAMED)
        assert (found["data"], found["known"], found["revisions"], found["tokens"]) == (None, True, 1, 0)

    process.beside(story)


def test_an_image_is_built_ahead_of_its_app_once(process: Process) -> None:
    """A second client is given the one that is there; a build that fails says so."""
    base = "ghcr.io/flyteorg/flyte:py3.12-v2.1.0"

    def image(package: str) -> dict[str, Any]:
        layers = [{"pipPackages": {"packages": [package]}}]
        return {"spec": {"baseImage": base, "layers": layers}, "files": {}}

    def story() -> None:
        process.ask("version")  # it answers when it is there
        process.world.build_s = 0.01
        where = {"project": "default", "domain": "development"}
        first = process.ask("image.build", **where, image=image("httpx"))
        assert process.ask("image.build", **where, image=image("httpx")) == first
        with pytest.raises(FlytedError, match="could not be built: 'exit-code', exit status 1"):
            process.ask("image.build", **where, image=image("broken-package"))
        with pytest.raises(InvalidInput, match="must have a spec, files"):
            process.ask("image.build", **where, image={"spec": []})

    process.beside(story)


def test_a_part_that_ends_by_itself_ends_the_daemon(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd starts it again; what ended the part is not lost."""

    async def ends(_self: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(main_module.Loop, "run", ends)
    with pytest.raises(RuntimeError, match="unforeseen"):
        process.beside(lambda: None)


def test_the_command_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Its version, and how it is used."""
    monkeypatch.setattr(sys, "argv", ["flyted", "--version"])
    assert main_module.main() == 0
    assert capfd.readouterr().out == f"flyted {VERSION}\n"
    monkeypatch.setattr(sys, "argv", ["flyted", "--help"])
    assert main_module.main() == 2
    assert "usage: flyted" in capfd.readouterr().err


@pytest.mark.parametrize("option", ["--rotate", "--new-identity", "--new-database"])
def test_options_for_systemd_and_the_operator_have_functions_of_their_own(
    monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """Each ends with the status that its function returns."""
    for module, name in (
        (main_module.rotation, "main"), (main_module.identity, "new_identity"),
        (main_module, "new_database"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, lambda: 7)
    monkeypatch.setattr(sys, "argv", ["flyted", option])
    assert main_module.main() == 7


@pytest.mark.parametrize("fault", ["settings", "systemd"])
def test_a_daemon_that_cannot_run_says_why_in_its_status(
    process: Process, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Where another start would not help it is not started again, and clients are told."""

    def read() -> Settings:
        raise InvalidInput("flyted.toml: there is no setting 'x'", hint="man flyted.toml")

    monkeypatch.setattr(sys, "argv", ["flyted"])
    monkeypatch.setattr(main_module.settings_file, "read", read)
    if fault == "settings":
        monkeypatch.setattr(main_module.sockets, "inherited", lambda: process.listeners)
    else:
        monkeypatch.delenv("LISTEN_FDS", raising=False)
    assert main_module.main() == (state_module.EX_CONFIG if fault == "settings" else 1)
    said = process.notified.recv(1000).decode()
    assert "no setting 'x' (man flyted.toml)" in said if fault == "settings" else "was not started by systemd" in said


def test_last_words_are_one_line(process: Process) -> None:
    """systemd keeps so much of it as a status."""
    with contextlib.closing(process.notified):
        assert main_module.last_words(FlytedError("a\nb " * 500)).count("\n") == 0
