"""Reads and writes the secret store's manifest: which file holds which secret, authenticated by the machine's key.

age proves no sender: anybody with the public key can write a valid file, and two files can be swapped by
renaming. So the manifest binds each secret's name and scope to the SHA-256 of its ciphertext, and is itself
authenticated (HMAC-SHA256 under HKDF(identity, "flyted manifest v1")). Bytes in, values out; no files here.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from flyted.contract.errors import StoreCorrupt
from flyted.contract.names import SecretScope

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_INFO = b"flyted manifest v1"
FORMAT = 1
_MAC_LINE = re.compile(rb"[0-9a-f]{64}")
_NAME_LENGTH = 200  # of a file name's readable part: NAME_MAX is 255
_PLAIN = re.compile(r"[A-Za-z0-9_.-]")
_FILE = re.compile(r".+\.(?P<generation>[1-9][0-9]{0,17})\.age(?P<unlisted>\.unlisted)?", re.DOTALL)
RESTORE = "restore /var/lib/flyted (secrets/, generation, identity.cred) from one backup"
UNLISTED = ".unlisted"
"""The end of the name of a secret file that is kept, though no manifest lists it."""


@dataclass(frozen=True, order=True)
class Slot:
    """A place in the store: a user's secret, or one of the daemon's own (``internal``), which no user can name."""

    scope: SecretScope
    key: str
    internal: bool = False

    def __str__(self) -> str:
        return f"internal secret '{self.key}'" if self.internal else f"secret '{self.key}' of {self.scope}"

    def file_name(self, generation: int) -> str:
        """Return ``KEY.7.age``, ``DOMAIN+KEY.7.age``, ``PROJECT+DOMAIN+KEY.7.age`` or ``+NAME.7.age`` (internal).

        Injective: '+' is escaped within the parts, and a name that would be too long ends in its whole hash.
        """
        parts = ("", self.key) if self.internal else (self.scope.project, self.scope.domain, self.key)
        name = "+".join(_escaped(p) for p in parts if p or self.internal)
        if len(name) > _NAME_LENGTH:
            name = f"{name[: _NAME_LENGTH - 65]}~{hashlib.sha256(name.encode()).hexdigest()}"
        return f"{name}.{generation}.age"


@dataclass(frozen=True)
class Entry:
    """The facts about a stored secret that are known without opening it."""

    generation: int  # of the store when this was written: never used twice, so no file name is either
    sha256: str  # of the ciphertext
    size: int  # bytes of the value
    created: int  # seconds since the epoch
    updated: int
    sealed_to: str  # fingerprint of the recipients it is encrypted to


@dataclass(frozen=True)
class SecretInfo:
    """The facts about a secret that are shown: never its value."""

    scope: SecretScope
    key: str
    generation: int
    created: int  # seconds since the epoch
    updated: int
    size: int  # bytes of the value
    damaged: bool


@dataclass(frozen=True)
class Manifest:
    """All entries at one generation. A change makes a new manifest, one generation later."""

    generation: int = 0
    entries: Mapping[Slot, Entry] = field(default_factory=lambda: MappingProxyType({}))

    def put(self, slot: Slot, entry: Entry) -> Manifest:
        """Return the next manifest, with ``entry`` at ``slot``; ``entry.generation`` must be the next one."""
        return Manifest(self.generation + 1, MappingProxyType({**self.entries, slot: entry}))

    def drop(self, slot: Slot) -> Manifest:
        """Return the next manifest, without ``slot``."""
        rest = {s: e for s, e in self.entries.items() if s != slot}
        return Manifest(self.generation + 1, MappingProxyType(rest))

    def files(self) -> set[str]:
        """Return the names of the files that must be there."""
        return {slot.file_name(entry.generation) for slot, entry in self.entries.items()}


def is_secret_file(name: str) -> bool:
    """Report whether ``name`` has the form that ``Slot.file_name`` gives."""
    found = _FILE.fullmatch(name)
    return found is not None and found["unlisted"] is None


def generation_of(name: str) -> int:
    """Return the generation in a secret file's name, listed or not; 0 for any other name."""
    found = _FILE.fullmatch(name)
    return int(found["generation"]) if found else 0


def encode(manifest: Manifest, key: bytes) -> bytes:
    """Return the manifest as JSON that a person can read, with its MAC in hexadecimal as the last line."""
    secrets = [
        {"project": s.scope.project, "domain": s.scope.domain, "key": s.key, "internal": s.internal, **asdict(e)}
        for s, e in sorted(manifest.entries.items())
    ]
    body = {"format": FORMAT, "generation": manifest.generation, "secrets": secrets}
    text = json.dumps(body, indent=1).encode("ascii")
    return text + b"\n" + _mac(text, key) + b"\n"


def decode(data: bytes, key: bytes) -> Manifest:
    """Return the manifest in ``data``; nothing is parsed before the MAC has verified.

    Raises ``StoreCorrupt`` for a wrong MAC, another format, or anything that is no manifest.
    """
    text, _, mac = data.removesuffix(b"\n").rpartition(b"\n")
    genuine = hmac.compare_digest(mac, _mac(text, key)) and _MAC_LINE.fullmatch(mac) and data.endswith(b"\n")
    if not genuine:
        raise StoreCorrupt(
            "the manifest of the secret store was changed, or written under another machine's identity",
            hint=RESTORE,
        )
    try:
        return _manifest(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupt(f"the manifest of the secret store cannot be read: {error!r}") from error


def _manifest(body: dict[str, Any]) -> Manifest:
    if body["format"] != FORMAT:
        raise StoreCorrupt(
            f"the secret store has format {body['format']}, and this flyted reads format {FORMAT}",
            hint="install the flyted that wrote it, or a newer one",
        )
    return Manifest(int(body["generation"]), MappingProxyType(dict(_entry(row) for row in body["secrets"])))


def _entry(row: dict[str, Any]) -> tuple[Slot, Entry]:
    row = dict(row)
    scope = SecretScope(row.pop("project"), row.pop("domain"))
    slot = Slot(scope, row.pop("key"), row.pop("internal"))
    return slot, Entry(**row)


def _mac(text: bytes, key: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).hexdigest().encode()


def _escaped(part: str) -> str:
    """Write every character but the plain ones as ``=XX`` of its UTF-8 bytes.

    A first '.' (a hidden file) or '-' (an option) is written so, too.
    """
    plain = "".join(c if _PLAIN.fullmatch(c) else _hex(c) for c in part)
    return _hex(plain[0]) + plain[1:] if plain.startswith((".", "-")) else plain


def _hex(character: str) -> str:
    return "".join(f"={byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
