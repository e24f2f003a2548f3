"""The age codec: against the program, against the official vectors where they are, against files forged by hand."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyted.contract.errors import FlytedError, InvalidInput
from flyted.host import age
from flyted.host.age import AgeError, Failure, Identity, Recipient
from tests.host.forge import CHUNK, FILE_KEY, MACHINE_SEED, OPERATOR_SEED, Forged, base64_of, chunk, stanza

pytestmark = pytest.mark.slow

FILES = Path(__file__).parent / "age_files"
MACHINE, OPERATOR = Identity(MACHINE_SEED), Identity(OPERATOR_SEED)
MACHINE_TEXT = "AGE-SECRET-KEY-1UJV6ZTZNHLD799VPPJ0Z8AZ0GJXLG5TX6FEW4XM9ND3Q4XEAJD4SH5SER0"
MACHINE_PUBLIC = "age1xfzp9h52f4gultxpesh8ku9zcn9hfptwjxwyj3sk234d9ed54ajsm342f2"
VALUE = b"my-secret-api-key-12345"
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 8 * CHUNK]
needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="the age program is not installed")


def failure(data: bytes, identity: Identity = MACHINE) -> Failure:
    with pytest.raises(AgeError) as caught:
        age.decrypt(data, identity)
    return caught.value.failure


# Keys.


def test_keys_are_spelled_as_the_age_program_spells_them() -> None:
    """A known key has its known spelling, both ways."""
    assert MACHINE.reveal() == MACHINE_TEXT
    assert str(MACHINE.recipient) == MACHINE_PUBLIC
    assert Identity.parse(MACHINE_TEXT).recipient == Recipient.parse(MACHINE_PUBLIC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "age1",
        MACHINE_TEXT.lower(),
        MACHINE_TEXT[:-1],
        MACHINE_TEXT[:20] + "b" + MACHINE_TEXT[21:],
        MACHINE_TEXT.replace("Q", "P", 1),
        MACHINE_TEXT + "\n",
        MACHINE_PUBLIC,
        "AGE-SECRET-KEY-PQ-1" + MACHINE_TEXT[16:],
        MACHINE_TEXT * 3,
        "ÄGE" + MACHINE_TEXT[3:],
    ],
)
def test_what_is_not_an_identity_is_refused_without_repeating_it(text: str) -> None:
    """A mistyped private key gives our error, and no part of it reaches a message."""
    with pytest.raises(InvalidInput) as caught:
        Identity.parse(text)
    assert MACHINE_TEXT[20:40] not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        MACHINE_PUBLIC.upper(),
        MACHINE_PUBLIC[:20] + MACHINE_PUBLIC[20:].upper(),
        MACHINE_PUBLIC[:-1],
        MACHINE_PUBLIC + "q",
        MACHINE_TEXT,
        "age1pq1" + "q" * 60,
        "ssh-ed25519 AAAA",
    ],
)
def test_what_is_not_a_recipient_is_refused(text: str) -> None:
    """Only plain X25519 recipients: every age in use can read what is encrypted to them."""
    with pytest.raises(InvalidInput):
        Recipient.parse(text)


def test_a_recipient_of_low_order_is_refused() -> None:
    """With such a key everybody could open the file (RFC 7748 section 6.1)."""
    for public in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(InvalidInput, match="low order"):
            Recipient.parse(str(Recipient(public)))
        with pytest.raises(InvalidInput, match="low order"):
            age.encrypt(VALUE, [Recipient(public)])


def test_an_identity_does_not_show_itself() -> None:
    """Neither ``repr`` nor pickle nor a copy gives the private key away."""
    assert MACHINE_TEXT not in f"{MACHINE!r} {MACHINE}"
    assert MACHINE_SEED.hex() not in f"{MACHINE!r}"
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(MACHINE)


def test_derived_keys_differ_by_use_and_by_identity() -> None:
    """A key for one use tells nothing of another; the derivation is HKDF-SHA256 (RFC 5869)."""
    from tests.host.forge import hkdf

    assert MACHINE.derive(b"a") == hkdf(MACHINE_SEED, b"", b"a")
    assert len({MACHINE.derive(b"a"), MACHINE.derive(b"b"), OPERATOR.derive(b"a")}) == 3


# Round trips and the program.


@pytest.mark.parametrize("size", SIZES)
def test_what_is_encrypted_comes_back(size: int) -> None:
    """Every length around the borders of the chunks, for each recipient."""
    value = os.urandom(size)
    sealed = age.encrypt(value, [MACHINE.recipient, OPERATOR.recipient])
    assert age.decrypt(sealed, MACHINE) == age.decrypt(sealed, OPERATOR) == value
    assert failure(sealed, Identity.generate()) is Failure.NO_MATCH


def test_the_same_value_is_never_encrypted_alike() -> None:
    """Fresh file key, share and nonce each time: equal values do not show."""
    assert age.encrypt(VALUE, [MACHINE.recipient]) != age.encrypt(VALUE, [MACHINE.recipient])


@pytest.mark.parametrize("count", [0, 65])
def test_the_number_of_recipients_is_bounded(count: int) -> None:
    """A file for nobody, or one that we would not read ourselves, is not written."""
    with pytest.raises(InvalidInput):
        age.encrypt(VALUE, [MACHINE.recipient] * count)


@pytest.mark.parametrize(("name", "value"), [("value", VALUE), ("two_recipients", VALUE), ("empty", b"")])
def test_files_of_the_age_program_open(name: str, value: bytes) -> None:
    """Files that age 1.1.1 wrote, kept here."""
    assert age.decrypt((FILES / f"{name}.age").read_bytes(), MACHINE) == value


def test_a_file_for_somebody_else_does_not_open() -> None:
    """Right format, other recipient."""
    assert failure((FILES / "foreign.age").read_bytes()) is Failure.NO_MATCH


@needs_age
@pytest.mark.parametrize("size", SIZES)
def test_the_age_program_and_we_read_each_other(size: int, tmp_path: Path) -> None:
    """What we encrypt `age -d` opens, and the reverse, byte for byte."""
    value, key, ours = os.urandom(size), tmp_path / "id.txt", tmp_path / "ours.age"
    key.write_text(OPERATOR.reveal() + "\n")
    ours.write_bytes(age.encrypt(value, [MACHINE.recipient, OPERATOR.recipient]))
    opened = subprocess.run(["age", "-d", "-i", key, ours], capture_output=True, check=True).stdout
    assert opened == value
    theirs = subprocess.run(["age", "-r", MACHINE_PUBLIC], input=value, capture_output=True, check=True).stdout
    assert age.decrypt(theirs, MACHINE) == value


# Malformed files.

SHARE, BODY = stanza()
BAD: list[tuple[str, Forged, Failure]] = [
    ("another version", Forged(version=b"age-encryption.org/v2"), Failure.HEADER),
    ("CRLF", Forged(version=b"age-encryption.org/v1\r"), Failure.HEADER),
    ("no recipient", Forged(lines=[]), Failure.HEADER),
    ("too many recipients", Forged(lines=stanza() * 65), Failure.HEADER),
    ("a line too long", Forged(lines=[b"-> x " + b"a" * age.MAX_LINE, b"", *stanza()]), Failure.HEADER),
    ("a body too long", Forged(lines=[b"-> x", *[b"A" * 64] * 200, b"", *stanza()]), Failure.HEADER),
    ("a body line too long", Forged(lines=[b"-> x", b"A" * 68, b"", *stanza()]), Failure.HEADER),
    ("no body", Forged(lines=[b"-> x", *stanza()]), Failure.HEADER),
    ("no short last line", Forged(lines=[*stanza(), b"-> x", b"A" * 64]), Failure.HEADER),
    ("an empty word", Forged(lines=[b"-> x  y", b"", *stanza()]), Failure.HEADER),
    ("a nameless stanza", Forged(lines=[b"->", b"", *stanza()]), Failure.HEADER),
    ("a word with a control character", Forged(lines=[b"-> x\x1f", b"", *stanza()]), Failure.HEADER),
    ("a word that is not ASCII", Forged(lines=["-> ü".encode(), b"", *stanza()]), Failure.HEADER),
    ("padded base64", Forged(lines=[SHARE + b"=", BODY]), Failure.HEADER),
    ("base64 of another spelling", Forged(lines=[SHARE, BODY[:-1] + bytes([BODY[-1] + 1])]), Failure.HEADER),
    ("base64 with a space", Forged(lines=[SHARE, BODY[:10] + b" " + BODY[10:]]), Failure.HEADER),
    ("a share too short", Forged(lines=[b"-> X25519 " + base64_of(bytes(31)), BODY]), Failure.HEADER),
    ("a share too long", Forged(lines=[b"-> X25519 " + base64_of(bytes(33)), BODY]), Failure.HEADER),
    ("a share of low order", Forged(lines=[b"-> X25519 " + base64_of(bytes(32)), BODY]), Failure.HEADER),
    ("no share", Forged(lines=[b"-> X25519", BODY]), Failure.HEADER),
    ("a second argument", Forged(lines=[SHARE + b" x", BODY]), Failure.HEADER),
    ("a malformed stanza behind ours", Forged(lines=[*stanza(), b"-> X25519 AAAA", BODY]), Failure.HEADER),
    ("a file key of 17 bytes", Forged(lines=stanza(file_key=FILE_KEY + b"x")), Failure.HEADER),
    ("a file key of 15 bytes", Forged(lines=stanza(file_key=FILE_KEY[1:])), Failure.HEADER),
    ("a passphrase beside us", Forged(lines=[b"-> scrypt AAAA 10", b"", *stanza()]), Failure.HEADER),
    ("only a passphrase", Forged(lines=[b"-> scrypt AAAA 40", b"A" * 43]), Failure.NO_MATCH),
    ("another case", Forged(lines=[SHARE.replace(b"X25519", b"x25519"), BODY]), Failure.NO_MATCH),
    ("no MAC", Forged(mac=b""), Failure.HEADER),
    ("a MAC without its space", Forged(mac=base64_of(bytes(32))), Failure.HEADER),
    ("a MAC too short", Forged(mac=b" " + base64_of(bytes(31))), Failure.HEADER),
    ("something behind the MAC", Forged(mac=b" " + base64_of(bytes(32)) + b" x"), Failure.HEADER),
    ("a wrong MAC", Forged(mac=b" " + base64_of(bytes(32))), Failure.HMAC),
    ("the MAC of another file key", Forged(lines=stanza(file_key=bytes(16))), Failure.HMAC),
    ("a nonce cut off", Forged(nonce=bytes(15), payload=b""), Failure.HEADER),
    ("no payload", Forged(payload=b""), Failure.PAYLOAD),
    ("half a tag", Forged(payload=bytes(8)), Failure.PAYLOAD),
    ("a wrong nonce", Forged(nonce=bytes(16)), Failure.PAYLOAD),
    ("no last chunk", Forged(payload=chunk(0, False, b"value")), Failure.PAYLOAD),
    ("no last chunk, a full one", Forged(payload=chunk(0, False, bytes(CHUNK))), Failure.PAYLOAD),
    ("an empty last chunk", Forged(payload=chunk(0, False, bytes(CHUNK)) + chunk(1, True, b"")), Failure.PAYLOAD),
    ("two last chunks", Forged(payload=chunk(0, True, bytes(CHUNK)) + chunk(1, True, b"v")), Failure.PAYLOAD),
    ("chunks swapped", Forged(payload=chunk(1, False, bytes(CHUNK)) + chunk(0, True, b"v")), Failure.PAYLOAD),
    ("something behind the last chunk", Forged(payload=chunk(0, True, b"value") + b"x"), Failure.PAYLOAD),
]


def test_the_forger_forges() -> None:
    """A file forged with nothing wrong opens: each of the next test is refused for its one fault."""
    assert age.decrypt(bytes(Forged()), MACHINE) == b"value"
    grease = [*stanza(OPERATOR_SEED), b"-> grease-x !~ 1", b"A" * 64, b"", *stanza(), b"-> y", b""]
    assert age.decrypt(bytes(Forged(lines=grease)), MACHINE) == b"value"
    whole = chunk(0, False, bytes(CHUNK)) + chunk(1, True, bytes(CHUNK))
    assert age.decrypt(bytes(Forged(payload=whole)), MACHINE) == bytes(2 * CHUNK)


@pytest.mark.parametrize(("forged", "expected"), [b[1:] for b in BAD], ids=[b[0].replace(" ", "-") for b in BAD])
def test_one_fault_is_refused_for_what_it_is(forged: Forged, expected: Failure) -> None:
    """Every rule of the format, broken alone, by somebody who knows the keys."""
    assert failure(bytes(forged)) is expected


def test_armor_is_refused_by_name() -> None:
    """The binary form only; the reason is said."""
    with pytest.raises(AgeError, match="armored"):
        age.decrypt(b"-----BEGIN AGE ENCRYPTED FILE-----\n", MACHINE)


@pytest.mark.parametrize("name", ["value", "two_recipients", "empty"])
def test_no_bit_of_a_file_can_be_flipped(name: str) -> None:
    """Each bit of each byte: none is free of the two authentications."""
    good = (FILES / f"{name}.age").read_bytes()
    for place in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[place] ^= 1 << bit
            failure(bytes(bad))


def test_no_file_can_be_cut() -> None:
    """Every prefix is refused."""
    good = (FILES / "two_recipients.age").read_bytes()
    for length in range(len(good)):
        failure(good[:length])


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(st.data())
def test_no_edit_of_a_file_opens(data: st.DataObject) -> None:
    """A stretch replaced by any other bytes (or by nothing, or moved): our error, never another, never a value."""
    good = (FILES / "two_recipients.age").read_bytes()
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, len(good)))
    patch = data.draw(st.binary(max_size=80) | st.sampled_from([good[:200], b"\n", b"-> X25519 ", b"--- ", b"="]))
    bad = good[:start] + patch + good[end:]
    if bad != good:
        failure(bad)


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(
    st.binary(max_size=400), st.sampled_from([b"", b"age-encryption.org/v1\n", b"age-encryption.org/v1\n-> X25519 "])
)
def test_any_bytes_give_our_error(data: bytes, start: bytes) -> None:
    """Nothing that can stand in a file raises anything but our error."""
    failure(start + data)


# The official vectors (C2SP/CCTV age/testdata), where somebody put them.


def _testkit() -> list[Path]:
    folder = os.environ.get("FLYTED_AGE_TESTKIT", "")
    return sorted(p for p in Path(folder).iterdir() if p.name != "README") if folder else []


class Vector:
    """One file of the test kit: header lines, an empty line, an age file."""

    def __init__(self, path: Path) -> None:
        head, self.data = path.read_bytes().split(b"\n\n", 1)
        lines = [line.split(": ", 1) for line in head.decode().split("\n")]
        self.fields = {name: value for name, value in lines}  # noqa: C416
        self.identities = [value for name, value in lines if name == "identity"]
        if self.fields.get("compressed") == "zlib":
            self.data = zlib.decompress(self.data)

    @property
    def supported(self) -> bool:
        """X25519 and binary: the part of the format that is built."""
        plain = all(not i.startswith("AGE-SECRET-KEY-PQ-") for i in self.identities)
        return plain and "armored" not in self.fields and "passphrase" not in self.fields


@pytest.mark.skipif(not _testkit(), reason="no age test kit (set FLYTED_AGE_TESTKIT to its folder)")
@pytest.mark.parametrize("path", _testkit(), ids=lambda p: p.name)
def test_official_vector(path: Path) -> None:
    """X25519 vectors end as their header says; those of unsupported kinds end in our error."""
    vector = Vector(path)
    expected, outcomes = vector.fields["expect"], []
    for text in vector.identities or [MACHINE_TEXT]:
        try:
            plain = age.decrypt(vector.data, Identity.parse(text))
            assert hashlib.sha256(plain).hexdigest() == vector.fields["payload"]
            outcomes.append("success")
        except AgeError as error:
            outcomes.append(error.failure.value)
        except FlytedError:
            outcomes.append("refused")
    if vector.supported:
        assert outcomes == [expected]
    else:
        assert "success" not in outcomes
