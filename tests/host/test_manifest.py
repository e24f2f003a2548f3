"""The manifest: what it binds, and that nobody without the key can change it."""

from __future__ import annotations

import dataclasses
import json
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyted.contract.errors import StoreCorrupt
from flyted.contract.names import SecretScope
from flyted.host import manifest
from flyted.host.manifest import Entry, Manifest, Slot

KEY = bytes(range(32))
ORG = SecretScope()
ENTRY = Entry(generation=3, sha256="ab" * 32, size=7, created=1_700_000_000, updated=1_700_000_001, sealed_to="cd" * 8)
ENTRIES = {
    Slot(ORG, "API_KEY"): ENTRY,
    Slot(SecretScope("", "development"), "API_KEY"): dataclasses.replace(ENTRY, generation=2),
    Slot(SecretScope("shop", "development"), "API_KEY"): dataclasses.replace(ENTRY, generation=1),
    Slot(ORG, "ca-key", internal=True): dataclasses.replace(ENTRY, size=1),
}
MANIFEST = Manifest(3, MappingProxyType(ENTRIES))

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
scopes = st.one_of(st.just(ORG), st.builds(SecretScope, st.just(""), labels), st.builds(SecretScope, labels, labels))
slots = st.builds(Slot, scopes, st.text(min_size=1, max_size=128), st.just(False)) | st.builds(
    Slot, st.just(ORG), labels, st.just(True)
)


def test_a_manifest_comes_back() -> None:
    """What is encoded is decoded, scope, name, generation, digest and all."""
    assert manifest.decode(manifest.encode(MANIFEST, KEY), KEY) == MANIFEST
    assert manifest.decode(manifest.encode(Manifest(), KEY), KEY) == Manifest()


@settings(max_examples=settings().max_examples // 2, deadline=None)
@given(st.dictionaries(slots, st.builds(dataclasses.replace, st.just(ENTRY), size=st.integers(1, 2**19)), max_size=8))
def test_any_manifest_comes_back(entries: dict[Slot, Entry]) -> None:
    """For every set of names and scopes."""
    whole = Manifest(9, MappingProxyType(entries))
    assert manifest.decode(manifest.encode(whole, KEY), KEY) == whole


def test_a_person_can_read_it() -> None:
    """All but the last line is JSON: what a restore without flyted needs to know."""
    lines = manifest.encode(MANIFEST, KEY).decode().splitlines()
    body = json.loads("\n".join(lines[:-1]))
    assert [s["key"] for s in body["secrets"]] == ["API_KEY", "ca-key", "API_KEY", "API_KEY"]
    assert body["generation"] == 3


def test_each_bit_counts() -> None:
    """Any bit flipped, any byte cut off or added: refused, never parsed."""
    good = manifest.encode(MANIFEST, KEY)
    for place in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[place] ^= 1 << bit
            with pytest.raises(StoreCorrupt):
                manifest.decode(bytes(bad), KEY)
    for other in [*(good[:n] for n in range(len(good))), good + b"\n", b"\n" + good, good + good]:
        with pytest.raises(StoreCorrupt):
            manifest.decode(other, KEY)


@settings(max_examples=2 * settings().max_examples, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_our_error(data: bytes) -> None:
    """Nothing raises anything but our error."""
    with pytest.raises(StoreCorrupt):
        manifest.decode(data, KEY)


def test_another_identity_made_another_manifest() -> None:
    """A manifest of another machine is not taken for ours."""
    with pytest.raises(StoreCorrupt, match="another machine's identity"):
        manifest.decode(manifest.encode(MANIFEST, KEY), bytes(32))


@pytest.mark.parametrize("change", [{"format": 2}, {"generation": "x"}, {"secrets": [{}]}, {"secrets": None}])
def test_a_genuine_manifest_that_we_do_not_understand_is_refused(change: dict[str, object]) -> None:
    """A newer flyted's, say: its MAC is right, and still nothing is guessed."""
    body = json.loads(manifest.encode(MANIFEST, KEY).rpartition(b"\n}")[0] + b"\n}")
    text = json.dumps({**body, **change}).encode()
    with pytest.raises(StoreCorrupt):
        manifest.decode(text + b"\n" + manifest._mac(text, KEY) + b"\n", KEY)


def test_a_change_is_one_generation_later() -> None:
    """``put`` and ``drop`` count; the manifest they start from stays as it was."""
    slot = Slot(ORG, "NEW")
    more = MANIFEST.put(slot, dataclasses.replace(ENTRY, generation=4))
    assert (more.generation, more.drop(slot).generation, MANIFEST.generation) == (4, 5, 3)
    assert more.drop(slot).entries == MANIFEST.entries
    assert more.files() - MANIFEST.files() == {"NEW.4.age"}


@pytest.mark.parametrize(
    ("slot", "name"),
    [
        (Slot(ORG, "API_KEY"), "API_KEY.7.age"),
        (Slot(SecretScope("", "prod"), "API_KEY"), "prod+API_KEY.7.age"),
        (Slot(SecretScope("shop", "prod"), "a.b-c"), "shop+prod+a.b-c.7.age"),
        (Slot(ORG, "ca-key", internal=True), "+ca-key.7.age"),
        (Slot(ORG, "../../etc/shadow\n"), "=2E.=2F..=2Fetc=2Fshadow=0A.7.age"),
        (Slot(ORG, "-rf"), "=2Drf.7.age"),
        (Slot(ORG, "a+b=Ä"), "a=2Bb=3D=C3=84.7.age"),
    ],
)
def test_a_file_name_lets_a_person_find_the_secret(slot: Slot, name: str) -> None:
    """Scope and key stand in the file's name; what could be a path or an option is escaped."""
    assert slot.file_name(7) == name


@given(slots, slots, st.integers(1, 10**12))
def test_two_secrets_never_share_a_file_name(one: Slot, other: Slot, generation: int) -> None:
    """The escape is injective over every scope and every text, and fits a directory entry."""
    name = one.file_name(generation)
    assert (name == other.file_name(generation)) == (one == other)
    assert len(name.encode()) <= 255
    assert "/" not in name
    assert not name.startswith((".", "-"))
    assert manifest.is_secret_file(name)
    assert manifest.generation_of(name) == generation


def test_long_names_differ_by_their_hash() -> None:
    """Names that agree in all that is shown still get different files."""
    scope = SecretScope("p" * 63, "d" * 63)
    one, other = Slot(scope, "k" * 127 + "1").file_name(1), Slot(scope, "k" * 127 + "2").file_name(1)
    assert one != other
    assert one.split("~")[0] == other.split("~")[0]


@pytest.mark.parametrize("name", ["manifest", "x.age", "x.0.age", "x.01.age", ".7.age", "x.7.age.bak", "x.7"])
def test_other_files_are_not_taken_for_secrets(name: str) -> None:
    """Only what ``file_name`` can give is ever swept or renamed."""
    assert not manifest.is_secret_file(name)


def test_a_file_that_is_kept_counts_its_generation() -> None:
    """An unlisted file is no secret's file, but its number is not given out again."""
    assert not manifest.is_secret_file("x.7.age.unlisted")
    assert manifest.generation_of("x.7.age.unlisted") == 7
