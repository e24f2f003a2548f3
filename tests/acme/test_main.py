"""What lego is given, and what becomes of its output: a script stands in its place, and the real one in a machine."""

from __future__ import annotations

import base64
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from flyted.acme import main, words
from flyted.acme.main import Failed

NAME = "chat.apps.example.org"
SECRET = "s3cret-of-the-provider"
LEGO = """#!/bin/sh
echo "arguments: $*"
echo "variables: $HETZNER_API_KEY $HTTPS_PROXY $HOME $LEGO_CA_CERTIFICATES $LEGO_DNS_RESOLVERS"
find . -type f | sort
case "$*" in *revoke*) cat certificates/*.crt accounts/*/*/account.json; exit;; esac
cat accounts/*/*/keys/*.key request.pem
mkdir certificates
echo CHAIN >certificates/x.crt
echo ISSUER >certificates/x.issuer.crt
exit {status}
"""


@pytest.fixture
def lego(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that tells what it was given."""
    file, folder = tmp_path / "lego", tmp_path / "work"
    file.write_text(LEGO.format(status=0))
    file.chmod(0o755)
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_words, **_options: [])
    return file


def job(**more: Any) -> dict[str, Any]:
    """A job by HTTP, or another one."""
    return {
        words.SERVER: "https://ca.example.net:14000/dir", words.SERVER_CA: "", words.EMAIL: "me@example.org",
        words.ACCOUNT: "ACCOUNT\n", words.NAME: NAME, words.REQUEST: "REQUEST\n", words.REVOKE: "",
        words.DNS: "", words.VARIABLES: {},
        **more,
    }  # fmt: skip


def run(lego: Path, capfd: pytest.CaptureFixture[str], given: dict[str, Any]) -> list[str]:
    """The lines of an order that ends well."""
    assert main.carry_out(main.Job(**given), Path.cwd(), str(lego)) == b"CHAIN\n"
    return capfd.readouterr().out.splitlines()


def test_lego_comes_with_the_package_unless_that_is_refused() -> None:
    """Not everybody orders certificates."""
    control = (Path(__file__).parents[2] / "packaging/debian/control").read_text()
    (recommended,) = re.findall(r"^Recommends: (.*)$", control, re.MULTILINE)
    assert "lego" in recommended.split(", ")


def test_by_http(lego: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The account's key is where lego looks for it; nothing else of the machine's variables is there."""
    found = run(lego, capfd, job())
    here = Path.cwd()
    words_of_lego = [
        "--accept-tos", "--path", str(here), "--server", "https://ca.example.net:14000/dir", "--email",
        "me@example.org", "--csr", f"{here}/request.pem", "--http", "--http.webroot", f"{here}/webroot",
    ]  # fmt: skip
    assert found == [
        f"arguments: {' '.join(words_of_lego)} run",
        "variables:  http://proxy:3128   ",
        "./accounts/ca.example.net_14000/me@example.org/keys/me@example.org.key",
        "./request.pem",
        "ACCOUNT",
        "REQUEST",
    ]


def test_a_revocation(lego: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the account's key alone, whose account lego asks the authority for. Nothing is looked up or ordered."""
    monkeypatch.delattr(socket, "getaddrinfo")
    given = job(**{words.REVOKE: "OLD\n", words.REQUEST: "", words.NAME: "*.example.org"})
    assert main.carry_out(main.Job(**given), Path.cwd(), str(lego)) == b""
    found, own = capfd.readouterr().out.splitlines(), "./accounts/ca.example.net_14000/me@example.org"
    assert found[0].endswith("--email me@example.org --domains *.example.org revoke --keep --reason 1")
    assert "--csr" not in found[0]
    assert found[2:-1] == [
        f"{own}/account.json", f"{own}/keys/me@example.org.key", "./certificates/_.example.org.crt", "OLD",
    ]  # fmt: skip
    assert json.loads(found[-1]) == {"email": "me@example.org", "registration": None}


def test_by_dns(lego: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider's variables are lego's; a value that it prints is not passed on; no address is looked up."""
    monkeypatch.delattr(socket, "getaddrinfo")
    given = {
        "HETZNER_API_KEY": SECRET, words.PROPAGATION: "192.0.2.1:53,192.0.2.2:53", words.UNCHECKED: "true",
    }  # fmt: skip
    found = run(lego, capfd, job(**{words.DNS: "hetzner", words.VARIABLES: given, words.SERVER_CA: "PEM"}))
    resolvers = "--dns.resolvers 192.0.2.1:53 --dns.resolvers 192.0.2.2:53"
    assert found[0].endswith(f"--dns hetzner {resolvers} --dns.disable-cp run")
    assert found[1] == f"variables: *** http://proxy:3128  {Path.cwd()}/server_ca.pem "
    assert SECRET not in "\n".join(found)


def test_what_goes_wrong(lego: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in its own way."""

    def fails(status: int, said: str) -> None:
        with pytest.raises(Failed, match=said) as caught:
            main.carry_out(main.Job(**job()), tmp_path / "again", str(lego))
        assert caught.value.status == status

    (tmp_path / "again").mkdir()
    lego.write_text(LEGO.format(status=3))
    fails(words.EX_REFUSED, "lego ended with status 3")

    def nobody(*_words: Any, **_options: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    fails(words.EX_NORECORD, f"{NAME} has no DNS record")
    lego.unlink()
    fails(words.EX_NOLEGO, "lego is not installed")


def test_a_resolver_that_does_not_answer_is_no_reason(lego: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authority asks another one."""

    def busy(*_words: Any, **_options: Any) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", busy)
    assert main.carry_out(main.Job(**job()), Path.cwd(), str(lego)) == b"CHAIN\n"


def test_keys_are_written_to_memory_alone() -> None:
    """What is mounted last at the unit's folder counts."""
    folder, memory, disk = Path("/run/lego"), "tmpfs /run/lego tmpfs rw 0 0\n", "/dev/sda /run/lego ext4 rw 0 0\n"
    main.check_memory(folder, f"tmpfs /run tmpfs ro 0 0\n{memory}")
    for mounts in ("", "tmpfs /run tmpfs rw 0 0\n", f"{memory}{disk}"):
        with pytest.raises(Failed, match="is not in memory"):
            main.check_memory(folder, mounts)


def test_as_a_program(
    lego: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The certificate comes in lines of bounded length; without a job there is one line that says so."""
    monkeypatch.setattr(main, "FOLDER", Path.cwd())
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert main.main() == words.EX_CONFIG
    assert "is not in memory" in capfd.readouterr().out
    monkeypatch.setattr(main, "check_memory", lambda *_words: None)
    assert main.main() == words.EX_CONFIG
    assert capfd.readouterr().out.splitlines() == [
        f"{words.OURS}there is no job: only units of flyted run this program"
    ]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for text in ("{}", "[]", '{"server": "x"}'):
        (tmp_path / words.JOB).write_text(text)
        assert main.main() == words.EX_CONFIG
        assert capfd.readouterr().out == f"{words.OURS}the job is not as expected\n"
    (tmp_path / words.JOB).write_text(json.dumps(job()))
    monkeypatch.setattr(main, "carry_out", lambda *_words: b"x" * 9000)
    assert main.main() == 0
    lines = [line.removeprefix(words.OURS + words.CERTIFICATE) for line in capfd.readouterr().out.splitlines()]
    assert base64.b64decode("".join(lines)) == b"x" * 9000
    assert max(map(len, lines)) <= 3000


def test_a_fault_that_nobody_thought_of_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / words.JOB).write_text(json.dumps(job()))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    def fault(*_words: Any) -> bytes:
        raise ValueError("unthought\nof")

    monkeypatch.setattr(main, "check_memory", lambda *_words: None)
    monkeypatch.setattr(main, "carry_out", fault)
    assert main.main() == words.EX_SOFTWARE
    assert capfd.readouterr().out == f"{words.OURS}internal error in flyted: ValueError: unthought\\nof\n"
