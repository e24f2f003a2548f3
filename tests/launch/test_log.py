"""What a program prints reaches the journal without the app's secrets, and otherwise as it is."""

from __future__ import annotations

import base64
import html
import json
import os
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.launch.log import HIDDEN, Log, forms

pytestmark = pytest.mark.slow

KEY = 'my-"llm"\\key/12345 é'
VALUE = KEY.encode()


def passed(log: Log, chunks: list[bytes]) -> bytes:
    """What comes out when these writes go in, through the real pipes."""
    source, write = os.pipe()
    read, target = os.pipe()
    for chunk in chunks:
        os.write(write, chunk)
    os.close(write)
    log._hand_on(source, target)
    os.close(target)
    with os.fdopen(read, "rb") as file:
        os.close(source)
        return file.read()


@pytest.mark.parametrize(
    "written",
    [
        KEY, repr(KEY), json.dumps(KEY), json.dumps(KEY, ensure_ascii=False), urllib.parse.quote(KEY, safe=""),
        base64.b64encode(VALUE).decode(), base64.b64encode(VALUE + b":more").decode(), VALUE.hex(),
        VALUE.hex().upper(), repr(VALUE), html.escape(KEY), urllib.parse.quote(KEY), urllib.parse.quote_plus(KEY),
    ],
)  # fmt: skip
def test_a_value_is_found_in_every_spelling(written: str) -> None:
    """SGLang's line, and what other programs make of an argument."""
    out = passed(Log([VALUE]), [f"server_args={{'api_key': {written}, 'port': 1}}\n".encode()])
    assert HIDDEN in out
    assert written.encode() not in out
    assert b"llm" not in out


@given(st.binary(min_size=0, max_size=9), st.binary(min_size=6, max_size=40), st.binary(max_size=9), st.booleans())
def test_a_value_inside_a_longer_base64_is_found(before: bytes, value: bytes, after: bytes, url: bool) -> None:
    """Basic authentication encodes ``user:key``: what stands before shifts the characters in one of three ways."""
    encoded = (base64.urlsafe_b64encode if url else base64.b64encode)(before + value + after)
    hidden = Log([value]).without_secrets(encoded)
    if len(value) >= 8:  # of a shorter one too few characters are its own
        assert HIDDEN in hidden


@given(st.integers(0, len(VALUE)), st.integers(0, 3))
def test_a_value_in_two_writes_is_found(at: int, gap: int) -> None:
    """Lines are put together before they are looked at."""
    chunks = [b"a" * gap + VALUE[:at], VALUE[at:] + b"z\nnext"]
    assert passed(Log([VALUE]), [c for c in chunks if c]) == b"a" * gap + HIDDEN + b"z\nnext"


def test_a_line_without_an_end_is_handed_on() -> None:
    """A progress bar may go on for ever: memory does not, and a value at the cut is found."""
    text = b"x" * 65530 + VALUE + b"y" * 20
    log = Log([VALUE])
    read, write = os.pipe()
    out, target = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        for at in range(0, len(text), 4099):
            os.write(write, text[at : at + 4099])
        os._exit(0)
    os.close(write)
    reader = os.fork()
    if reader == 0:
        log._hand_on(read, target)
        os._exit(0)
    os.close(target)
    with os.fdopen(out, "rb") as file:
        found = file.read()
    os.waitpid(pid, 0)
    os.waitpid(reader, 0)
    os.close(read)
    assert found == b"x" * 65530 + HIDDEN + b"y" * 20


def test_a_value_longer_than_what_is_read_at_once_is_not_handed_on_in_parts() -> None:
    """Nothing may go out while all that is held may be the beginning of a value."""
    value = bytes(range(48, 58)) * 10_000
    written = value.hex().encode()  # 200000 characters, of which a pipe holds a third
    source, write = os.pipe()
    read, target = os.pipe()
    with ThreadPoolExecutor() as pool, os.fdopen(read, "rb") as out, os.fdopen(write, "wb") as program:
        copying = pool.submit(Log([value])._hand_on, source, target)
        found = pool.submit(out.read)
        program.write(written)
        program.close()
        copying.result()
        os.close(target)
        assert found.result() == HIDDEN
    os.close(source)


def test_each_line_of_a_long_value_counts_and_short_ones_do_not() -> None:
    """A private key that is printed line by line; a value as short as "yes" would be found everywhere."""
    log = Log([b"first-line\nsecond-line\n", b"yes"])
    assert log.without_secrets(b"yes: second-line") == b"yes: ***"
    assert forms(b"yes") == set()


def test_a_short_value_is_not_looked_for() -> None:
    """It would be found by chance, in every other line."""
    assert passed(Log([b"short"]), [b"a short line\n"]) == b"a short line\n"
