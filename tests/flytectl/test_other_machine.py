"""The script that sets up another machine: what it writes there, and what it leaves as it is."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flytectl import cli, other_machine
from flyted.contract import token
from flyted.contract.answers.codec import to_wire
from flyted.contract.answers.domains import DomainStatus
from flyted.contract.answers.tokens import TokenStatus
from flyted.contract.errors import InvalidInput, NotFound
from tests.answers import whole
from tests.flytectl.stub_daemon import result

pytestmark = pytest.mark.slow

API = "flyted.apps.example.org"
TOKEN = token.new(bytes(range(token.RANDOM_BYTES)))
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
PUBLIC = whole(DomainStatus, domain="apps.example.org", certificate="acme", api=API, https_port=443)
HOUSE = replace(PUBLIC, domain="apps.box.lan", certificate="own-ca", api="flyted.apps.box.lan", authority_pem=PEM)


def run(script: str, home: Path) -> subprocess.CompletedProcess[str]:
    """As ``ssh laptop sh`` does."""
    home.mkdir(exist_ok=True)
    return subprocess.run(
        ["sh"], input=script, capture_output=True, text=True, check=False, env={"HOME": str(home), "PATH": os.defpath}
    )


def read(home: Path) -> Any:
    """What the SDK reads there, with the companion's own section."""
    config = pytest.importorskip("flyte.config")
    return config.auto(home / ".flyte/config.yaml")


@pytest.mark.parametrize("name", ["home", "my home", 'it\'s "mine" \\ $(id)'])
def test_what_it_writes(tmp_path: Path, name: str) -> None:
    """The SDK reads the configuration, and the command in it prints the token, which nobody else can read."""
    home = tmp_path / name
    done = run(other_machine.script(PUBLIC, "laptop", TOKEN, "p1", "production"), home)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    found = read(home)
    assert found.platform.endpoint == f"dns:///{API}"
    assert found.platform.ca_cert_file_path is None
    assert found.platform.auth_mode == "ExternalCommand"
    assert (found.task.project, found.task.domain, found.image.builder) == ("p1", "production", "remote")
    printed = subprocess.run(found.platform.command, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == TOKEN
    assert {each.stat().st_mode & 0o77 for each in (home / ".flyte").iterdir()} == {0}
    assert f'host: "{API}"' in (home / ".flyte/config.yaml").read_text()


def test_an_authority_of_ours_goes_along(tmp_path: Path) -> None:
    """With the port, if it is not the usual one; and other programs are told about it."""
    done = run(
        other_machine.script(replace(HOUSE, https_port=8443), "laptop", TOKEN, "default", "development"), tmp_path
    )
    assert done.returncode == 0, done.stderr
    bundle = tmp_path / ".flyte/flyted-bundle.pem"
    assert f"export SSL_CERT_FILE='{bundle}'" in done.stderr
    assert bundle.read_text().startswith(PEM)
    found = read(tmp_path)
    assert found.platform.endpoint == "dns:///flyted.apps.box.lan:8443"
    assert Path(found.platform.ca_cert_file_path).read_text() == PEM


def test_a_configuration_of_ones_own_stays(tmp_path: Path) -> None:
    """One that it wrote is replaced, as for a new token."""
    script = other_machine.script(PUBLIC, "laptop", TOKEN, "default", "development")
    assert run(script, tmp_path).returncode == run(script, tmp_path).returncode == 0
    config = tmp_path / ".flyte/config.yaml"
    config.write_text("admin:\n  endpoint: dns:///work.example.com\n")
    (tmp_path / ".flyte/flyted.token").unlink()
    done = run(script, tmp_path)
    assert done.returncode == 1
    assert "is another configuration" in done.stderr
    assert "flytectl config init --for-other-machine laptop --force" in done.stderr
    assert config.read_text().endswith("work.example.com\n")
    assert not (tmp_path / ".flyte/flyted.token").exists()


def test_which_domain_it_is_for() -> None:
    """The first that serves the API, or the one that is asked for; without one it says how to make one."""
    off = replace(PUBLIC, api="")
    assert other_machine.serving([off, HOUSE, PUBLIC]) == HOUSE
    assert other_machine.serving([HOUSE, PUBLIC], "apps.example.org") == PUBLIC
    with pytest.raises(NotFound) as raised:
        other_machine.serving([off])
    assert raised.value.hint.startswith("sudo flytectl domain set DOMAIN --api ")
    with pytest.raises(NotFound) as raised:
        other_machine.serving([off, HOUSE], off.domain)
    assert raised.value.hint.startswith("sudo flytectl domain set apps.example.org --api ")
    assert other_machine.serving([HOUSE, PUBLIC], "Apps.Example.org.:8443") == replace(PUBLIC, https_port=8443)
    for bad in ("apps.example.org:x", "apps.example.org:0", "apps.example.org:65536", "a b"):
        with pytest.raises(InvalidInput):
            other_machine.serving([PUBLIC], bad)


def test_a_script_that_comes_in_part_does_nothing(tmp_path: Path) -> None:
    """The connection broke: what is there stays whole."""
    script = other_machine.script(HOUSE, "laptop", TOKEN, "default", "development")
    for length in range(0, len(script) - len("main  # the last line: a script that comes in part does nothing\n"), 97):
        run(script[:length], tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_files_that_others_could_read_are_replaced(tmp_path: Path) -> None:
    """And links are not followed."""
    (tmp_path / ".flyte").mkdir()
    for name in ("flyted.token", "flyted.token.new"):
        (tmp_path / "elsewhere").write_text("mine")
        (tmp_path / ".flyte" / name).symlink_to(tmp_path / "elsewhere")
    assert run(other_machine.script(PUBLIC, "laptop", TOKEN, "default", "development"), tmp_path).returncode == 0
    token_file = tmp_path / ".flyte/flyted.token"
    assert (token_file.is_symlink(), token_file.stat().st_mode & 0o777) == (False, 0o600)
    assert (tmp_path / "elsewhere").read_text() == "mine"


@pytest.mark.parametrize("bad", [("x`id`", "default"), (TOKEN, "p $(id)"), (TOKEN, "Bad")])
def test_what_would_not_be_plain_in_a_script_is_refused(bad: tuple[str, str]) -> None:
    """No text in it is run."""
    with pytest.raises(InvalidInput):
        other_machine.script(PUBLIC, "laptop", bad[0], bad[1], "development")


def test_the_command(stub_daemon, tmp_path: Path, capsys) -> None:
    """To standard output or a file that nobody else reads; a script that cannot be written leaves no token behind."""
    asked: list[dict[str, object]] = []
    status = to_wire(whole(TokenStatus, name="laptop", expires_at=2e9))
    user = pwd.getpwuid(os.getuid()).pw_name
    mine, theirs = {**status, "id": "mine", "user": user}, {**status, "id": "theirs", "user": "somebody"}

    def answer(request: dict[str, object]) -> bytes:
        asked.append(request)
        if request["verb"] == "domain.list":
            return result(domains=[to_wire(PUBLIC)])
        if request["verb"] == "token.list":
            return result(tokens=[theirs, mine])
        return result(token=TOKEN, status=status) if request["verb"] == "token.create" else result(tokens=[status])

    stub_daemon(answer)
    words = ["config", "init", "--for-other-machine", "laptop", "--expires", "90d"]
    assert cli.main(words) == 0
    said = capsys.readouterr()
    assert said.out == other_machine.script(PUBLIC, "laptop", TOKEN, "default", "development")
    assert TOKEN not in said.err
    assert "flytectl token revoke laptop" in said.err
    assert [each["verb"] for each in asked] == ["domain.list", "token.create"]
    file = tmp_path / "laptop.sh"
    assert cli.main([*words, str(file)]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("mine")
    asked.clear()
    assert cli.main([*words, str(file)]) != 0
    assert asked == []
    assert "add --force to replace it" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert cli.main([*words, str(tmp_path / "laptop.sh/x")]) != 0
    assert [each["verb"] for each in asked] == ["domain.list", "token.create", "token.revoke"]
    asked.clear()
    assert cli.main([*words, str(file), "--force"]) == 0
    assert [each["verb"] for each in asked] == ["domain.list", "token.list", "token.revoke", "token.create"]
    assert asked[2]["args"] == {"token": "mine", "all": False}
    assert TOKEN in file.read_text()
