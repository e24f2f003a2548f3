"""``/etc/flyted/recipients.txt``: who else can open the secrets, and who may say so."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyted.contract.errors import HostFailure, InvalidInput
from flyted.host import recipients
from flyted.host.age import Identity
from tests.host.vaults import MACHINE, OPERATOR

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO = str(MACHINE.recipient), str(OPERATOR.recipient)


def test_one_key_a_line_with_comments() -> None:
    """Comments, empty lines, blanks around, CRLF and repeats are all right."""
    text = f"# operators\n\n  {ONE}  \r\n#{TWO}\n{TWO}\n{ONE}\n".encode()
    assert recipients.parse(text, "r.txt") == sorted([MACHINE.recipient, OPERATOR.recipient])
    assert recipients.parse(b"", "r.txt") == []


@pytest.mark.parametrize("spelling", [str.upper, str.lower, lambda key: f"identity: {key}"])
def test_a_private_key_is_refused_and_not_repeated(spelling: object) -> None:
    """The commonest mistake and the worst: the error says so, tells what to do, and does not print the key."""
    assert callable(spelling)
    secret = OPERATOR.reveal()
    with pytest.raises(InvalidInput, match=r"r\.txt, line 2: this is a private key") as caught:
        recipients.parse(f"{ONE}\n{spelling(secret)}\n".encode(), "r.txt")
    assert "age-keygen -y" in caught.value.hint
    assert secret[20:40] not in f"{caught.value.message}{caught.value.hint}".upper()


@pytest.mark.parametrize(
    "line", ["ssh-ed25519 AAAAC3Nza", ONE[:-1], f"{ONE} # me", "age1pq1qqqq", ONE.upper(), "x" * 70_000, "ä"]
)
def test_a_line_that_is_no_recipient_is_refused(line: str) -> None:
    """Nothing is skipped in silence: a key that does not count is worse than none."""
    with pytest.raises(InvalidInput, match=r"r\.txt"):
        recipients.parse(f"{TWO}\n{line}\n".encode(), "r.txt")


def test_the_number_is_bounded() -> None:
    """As many as are allowed, and one more."""
    keys = [str(Identity.generate().recipient) for _ in range(recipients.MAX_RECIPIENTS + 1)]
    assert len(recipients.parse("\n".join(keys[1:]).encode(), "r.txt")) == recipients.MAX_RECIPIENTS
    with pytest.raises(InvalidInput, match="more than 16"):
        recipients.parse("\n".join(keys).encode(), "r.txt")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_recipients_or_our_error(data: bytes) -> None:
    """Nothing else is raised."""
    try:
        assert isinstance(recipients.parse(data, "r.txt"), list)
    except InvalidInput as error:
        assert error.message.startswith("r.txt")


def test_no_file_is_no_recipient(tmp_path: Path) -> None:
    """The file is optional."""
    assert recipients.read(tmp_path / "none") == []


def test_the_file_is_read(tmp_path: Path) -> None:
    """World-readable is as it should be: the keys are public."""
    path = tmp_path / "recipients.txt"
    path.write_text(f"{ONE}\n")
    path.chmod(0o644)
    assert recipients.read(path) == [MACHINE.recipient]


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever adds a line reads every secret from then on."""
    path = tmp_path / "recipients.txt"
    path.write_text(f"{ONE}\n")
    path.chmod(mode)
    with pytest.raises(HostFailure, match="can be changed by users other than root"):
        recipients.read(path)


def test_what_is_not_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    """A FIFO or a folder in its place."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path, fifo):
        with pytest.raises(HostFailure):
            recipients.read(path)
