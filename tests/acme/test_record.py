"""Where a name leads, as the program tells flyted; the kernel says which addresses are this machine's."""

from __future__ import annotations

import inspect
import socket
from typing import Any

import pytest

from flytectl import addresses
from flyted.acme import main, record, words

NAME = "chat.example.com"


def tells(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], answer: Any) -> tuple[int, list[str]]:
    """What it says when the resolver answers so."""

    def resolver(*asked: Any, **_options: Any) -> Any:
        assert asked[0] == NAME
        if isinstance(answer, OSError):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in answer]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    monkeypatch.setattr(record, "own_public", lambda: ["203.0.114.7"])
    monkeypatch.setattr("sys.argv", ["acme", words.RECORD, NAME])
    status = main.main()
    return status, [line.removeprefix(words.OURS) for line in capfd.readouterr().out.splitlines()]


def test_a_name_that_leads_here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert tells(monkeypatch, capfd, ["127.0.0.1"]) == (0, [f"{words.OWN}203.0.114.7"])


def test_a_name_that_leads_elsewhere(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Addresses that this machine has are not among those that are told."""
    status, lines = tells(monkeypatch, capfd, ["192.0.2.77", "127.0.0.1", "2001:db8::77"])
    assert (status, lines[1:]) == (0, [f"{words.ELSEWHERE}192.0.2.77", f"{words.ELSEWHERE}2001:db8::77"])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (socket.EAI_NONAME, words.EX_NORECORD),
        (socket.EAI_NODATA, words.EX_NORECORD),
        (socket.EAI_AGAIN, words.EX_NOANSWER),
    ],
)
def test_a_name_without_an_address(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: int, status: int
) -> None:
    """A resolver that does not answer has not said so."""
    assert tells(monkeypatch, capfd, socket.gaierror(error, "")) == (status, [f"{words.OWN}203.0.114.7"])


def test_the_command_asks_the_kernel_the_same() -> None:
    """Neither may import the other."""
    for name in ("is_here", "own_public"):
        assert inspect.getsource(getattr(record, name)) == inspect.getsource(getattr(addresses, name))
    assert record._ELSEWHERE == addresses._ELSEWHERE


def test_what_is_this_machines() -> None:
    """An address of the internet or none; nothing is sent for it."""
    assert record.is_here("127.0.0.1")
    assert not record.is_here("192.0.2.77")
    assert not record.is_here("2001:db8::77")
    assert all(map(record.is_here, record.own_public()))
