"""Manages the secret store: one age file per secret, and an authenticated manifest of the files.

This is the only file of flyted that encrypts and decrypts secrets; it keeps no plaintext. ``age -d -i operator.txt
KEY.7.age`` prints a value without flyted. ``secret_files`` says what is on disk, and in which order it gets there.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from flyted.contract import names
from flyted.contract.errors import AlreadyExists, HostFailure, InvalidInput, SecretNotFound, StoreCorrupt
from flyted.contract.names import SecretScope
from flyted.host import age, manifest
from flyted.host.manifest import Entry, Manifest, SecretInfo, Slot
from flyted.host.secret_files import MANIFEST, SecretFiles, host_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from flyted.host.age import Identity, Recipient
    from flyted.host.private_dir import PrivateDir

MAX_VALUE = 512 * 1024
"""Bytes of one value: it fits, with others, the 1 MiB that a unit has for credentials."""
MAX_SECRETS = 4096
"""The manifest is rewritten at each change; with this many secrets it has about 1.5 MiB."""
_MAX_FILE = MAX_VALUE + 64 * 1024  # the value, its chunks' tags, and a header with as many recipients as age allows


class Vault:
    """The open store. For one thread of one process: a lock on the folder keeps others out.

    A store whose manifest is not to be trusted opens too, but every call raises ``refusal`` (``StoreCorrupt``): so the
    daemon can start, serve apps that need no secret, say what is wrong, and take ``accept_rollback``.
    """

    def __init__(self, files: SecretFiles, identity: Identity, recovery: Sequence[Recipient]) -> None:
        """Use ``open``."""
        self._files = files
        self._identity = identity
        self._recovery = recovery
        self._recipients = sorted({identity.recipient, *recovery})
        self._sealed_to = _fingerprint(self._recipients)
        self._digests: dict[str, tuple[int, str]] = {}  # by the SHA-256 of the ciphertext

    @classmethod
    def open(cls, directory: Path, identity: Identity, recovery: Sequence[Recipient]) -> Vault:
        """Open the store below ``directory`` (``/var/lib/flyted``); make a new one if there is none.

        Raises ``HostFailure`` when the folders are missing, or open to other users, or a rotation is not finished, and
        ``Busy`` when another process has them. A damaged or rolled back store opens, with ``refusal`` set. When
        ``recovery`` has changed, all secrets are encrypted again, so that a key that is added later opens the older
        ones too; see ``stale``.
        """
        vault = cls(SecretFiles.open(directory, identity.derive(manifest.KEY_INFO)), identity, recovery)
        vault._reseal()
        return vault

    def close(self) -> None:
        """Close the store, so that another process can open it."""
        self._files.close()

    # A user's secrets.

    def put(self, scope: SecretScope, key: str, value: bytes, *, replace: bool) -> SecretInfo:
        """Store a value of 1 to ``MAX_VALUE`` bytes.

        Raises ``AlreadyExists`` if there is one and not ``replace``; ``InvalidInput`` for another key or size, or a
        full store; ``HostFailure`` (disk full, …), after which the old value is still there.
        """
        slot = Slot(scope, names.secret_key(key))
        if slot in self._entries() and not replace:
            raise AlreadyExists(f"{slot} is already in the store", hint=f"{_create(slot)} --replace")
        return self._info(slot, self._store(slot, value))

    def get(self, scope: SecretScope, key: str) -> bytes:
        """Return the value of a secret.

        Raises ``SecretNotFound``; ``StoreCorrupt``, naming the secret, if its file is not ours; ``HostFailure``.
        """
        return self._value(self._slot(scope, key))

    def digest(self, scope: SecretScope, key: str) -> tuple[int, str]:
        """Return the value's length and SHA-256, once its file has proved to be ours, or raise as :meth:`get`.

        Digests are remembered, values never: a value is decrypted for this only until it has been read once.
        """
        slot = self._slot(scope, key)
        entry = self._entries()[slot]
        self._sealed(slot, entry)
        if entry.sha256 not in self._digests:
            self._value(slot)
        return self._digests[entry.sha256]

    def info(self, scope: SecretScope, key: str) -> SecretInfo:
        """Return the facts about one secret, or raise ``SecretNotFound``."""
        slot = self._slot(scope, key)
        return self._info(slot, self._entries()[slot])

    def list(self) -> list[SecretInfo]:
        """Return the facts about all users' secrets, in order; each file is read and compared, none is decrypted."""
        return [self._info(slot, entry) for slot, entry in sorted(self._entries().items()) if not slot.internal]

    @property
    def count(self) -> int:
        """The number of secrets, the daemon's own included."""
        return len(self._entries())

    def delete(self, scope: SecretScope, key: str) -> SecretInfo:
        """Remove a secret, damaged or not, on a full disk too, and return the facts about it.

        Raises ``SecretNotFound``, ``HostFailure``.
        """
        slot = self._slot(scope, key, hint="flytectl secret ls --all")
        info = self._info(slot, self._entries()[slot])
        self._drop(slot)
        return info

    def find(self, key: str, project: str, domain: str) -> tuple[SecretScope, Entry]:
        """Return the scope that :meth:`resolve` finds, or raise as that, and the manifest's entry; no file is read."""
        scope = self.resolve(key, project, domain)
        return scope, self._entries()[Slot(scope, key)]

    def resolve(self, key: str, project: str, domain: str) -> SecretScope:
        """Return the scope in which an app of ``project`` and ``domain`` finds ``key``.

        The scopes are its own, the domain's and the machine's; the first that has the key wins, as in Flyte. Raises
        ``SecretNotFound``, which says where it looked, and ``InvalidInput`` for a key that cannot be one.
        """
        names.secret_key(key)
        scopes = list(dict.fromkeys([SecretScope(project, domain), SecretScope("", domain), SecretScope()]))
        found = next((s for s in scopes if Slot(s, key) in self._entries()), None)
        if found is None:
            looked = "; ".join(str(s) for s in scopes)
            message = f"secret '{key}' is not in the store (looked in {looked}){self._elsewhere(key)}"
            raise SecretNotFound(message, hint=_create(Slot(SecretScope(), key)))
        return found

    # The daemon's own.

    def put_internal(self, name: str, value: bytes) -> None:
        """Store, or replace, a secret of the daemon's own (the CA's key), which no user can name."""
        self._store(_internal(name), value)

    def get_internal(self, name: str) -> bytes:
        """Return a secret of the daemon's own, or raise as :meth:`get`."""
        return self._value(self._own(name))

    def delete_internal(self, name: str) -> None:
        """Remove a secret of the daemon's own, on a full disk too. Raises ``SecretNotFound``, ``HostFailure``."""
        self._drop(self._own(name))

    def _own(self, name: str) -> Slot:
        slot = _internal(name)
        if slot not in self._entries():
            raise SecretNotFound(f"{slot} is not in the store")
        return slot

    # The store as a whole.

    @property
    def refusal(self) -> StoreCorrupt | None:
        """Why the whole store is refused; ``None`` when it is sound."""
        return self._files.refusal

    @property
    def has_recovery(self) -> bool:
        """True if a key other than this machine's can open the files."""
        return len(self._recipients) > 1

    @property
    def stale(self) -> int:
        """The number of secrets not encrypted to today's recipients: damaged ones, or all after a full disk."""
        return sum(e.sealed_to != self._sealed_to for e in self._files.current.entries.values())

    def accept_rollback(self) -> None:
        """Accept an older store, restored on purpose, as the true one; do nothing if there is nothing to accept.

        Secret files that its manifest does not list are kept, as ``NAME.unlisted``: a recovery key opens them.
        Raises ``refusal`` if it is of another kind: a manifest that was changed cannot be accepted.
        """
        self._files.accept_rollback()
        self._reseal()

    # Another identity, see ``rotation``.

    @property
    def recipient(self) -> Recipient:
        """The public key of this machine's identity."""
        return self._identity.recipient

    def ask_rotation(self) -> None:
        """Ask for a new identity, which ``flyted-rotate.service`` makes before flyted's next start.

        Raises ``StoreCorrupt``, as the refusal or when a secret is damaged: none may be lost on the way.
        Raises ``HostFailure`` when there are files of an accepted rollback: the new identity would not open them.
        """
        self._check_rotation()
        self._files.ask_rotation()

    def write_anew(self, folder: PrivateDir, identity: Identity) -> None:
        """Write the store at its next generation into an empty ``folder``, for ``identity`` and the recovery keys.

        Raises as ``ask_rotation``, and ``OSError``. This store stays as it is.
        """
        self._check_rotation()
        recipients = sorted({identity.recipient, *self._recovery})
        generation, sealed_to = self._files.current.generation + 1, _fingerprint(recipients)
        entries = {}
        for slot, entry in self._entries().items():
            sealed = age.encrypt(self._value(slot), recipients)
            folder.write(slot.file_name(generation), sealed)
            digest = hashlib.sha256(sealed).hexdigest()
            entries[slot] = replace(entry, generation=generation, sha256=digest, sealed_to=sealed_to)
        folder.write(MANIFEST, manifest.encode(Manifest(generation, entries), identity.derive(manifest.KEY_INFO)))
        folder.sync()

    # Inside.

    def _check_rotation(self) -> None:
        for slot, entry in self._entries().items():
            self._sealed(slot, entry)
        if left := self._files.unlisted():
            raise HostFailure(
                f"a rollback left {len(left)} files that only the current identity and the recovery keys can open: "
                + ", ".join(left[:3]),
                hint="move /var/lib/flyted/secrets/*.unlisted to where the recovery key is, or delete them",
            )

    def _reseal(self) -> None:
        """Encrypt each ``stale`` secret again; one that fails is unchanged. After a kill the next start continues."""
        if self.refusal is not None:
            return
        for slot, entry in self._files.current.entries.items():
            if entry.sealed_to != self._sealed_to:
                with contextlib.suppress(StoreCorrupt, HostFailure):
                    self._store(slot, self._value(slot), updated=entry.updated)

    def _entries(self) -> Mapping[Slot, Entry]:
        if self.refusal is not None:
            raise StoreCorrupt(self.refusal.message, hint=self.refusal.hint)
        return self._files.current.entries

    def _slot(self, scope: SecretScope, key: str, hint: str = "") -> Slot:
        slot = Slot(scope, names.secret_key(key))
        if slot not in self._entries():
            raise SecretNotFound(f"{slot} is not in the store{self._elsewhere(key)}", hint=hint or _create(slot))
        return slot

    def _elsewhere(self, key: str) -> str:
        scopes = [str(s.scope) for s in sorted(self._entries()) if s.key == key and not s.internal]
        return f"; there is one for {'; '.join(scopes)}" if scopes else ""

    def _info(self, slot: Slot, entry: Entry) -> SecretInfo:
        try:
            self._sealed(slot, entry)
            damaged = False
        except (StoreCorrupt, HostFailure):  # a disk that cannot give one file must not hide the others
            damaged = True
        return SecretInfo(slot.scope, slot.key, entry.generation, entry.created, entry.updated, entry.size, damaged)

    def _sealed(self, slot: Slot, entry: Entry) -> bytes:
        """Return the ciphertext that the manifest vouches for, or raise ``StoreCorrupt`` or ``HostFailure``."""
        try:
            with host_errors(f"{slot} cannot be read"):
                sealed = self._files.read(slot.file_name(entry.generation), _MAX_FILE)
        except StoreCorrupt as error:
            _damaged(slot, f"its file {error.message}")
        if sealed is None:
            _damaged(slot, "its file is missing")
        if hashlib.sha256(sealed).hexdigest() != entry.sha256:
            _damaged(slot, "its file is not the one that was stored")
        return sealed

    def _value(self, slot: Slot) -> bytes:
        entry = self._entries()[slot]
        sealed = self._sealed(slot, entry)
        try:
            value = age.decrypt(sealed, self._identity)
        except age.AgeError as error:
            _damaged(slot, error.message)
        if not slot.internal and entry.sha256 not in self._digests:
            if len(self._digests) > MAX_SECRETS:
                self._digests.clear()  # most of them are of values that were replaced
            self._digests[entry.sha256] = (len(value), hashlib.sha256(value).hexdigest())
        return value

    def _drop(self, slot: Slot) -> None:
        with host_errors(f"{slot} was not deleted"):
            self._files.drop(slot)

    def _store(self, slot: Slot, value: bytes, *, updated: int | None = None) -> Entry:
        old = self._entries().get(slot)
        _check_value(slot, value)
        if old is None and len(self._entries()) >= MAX_SECRETS:
            raise InvalidInput(f"the store is full: it holds {MAX_SECRETS} secrets", hint="flytectl secret ls --all")
        now = int(time.time())
        sealed = age.encrypt(value, self._recipients)
        entry = Entry(
            generation=self._files.current.generation + 1,
            sha256=hashlib.sha256(sealed).hexdigest(),
            size=len(value),
            created=old.created if old else now,
            updated=now if updated is None else updated,
            sealed_to=self._sealed_to,
        )
        with host_errors(f"{slot} was not stored" + ("; it keeps its old value" if old else "")):
            self._files.commit(self._files.current.put(slot, entry), slot.file_name(entry.generation), sealed)
        return entry


def _fingerprint(recipients: Sequence[Recipient]) -> str:
    return hashlib.sha256(" ".join(map(str, recipients)).encode()).hexdigest()[:16]


def _internal(name: str) -> Slot:
    return Slot(SecretScope(), names.label(name, "internal name"), internal=True)


def _create(slot: Slot) -> str:
    """Return the command that stores the secret."""
    project = f" --project {slot.scope.project}" if slot.scope.project else ""
    domain = f" --domain {slot.scope.domain}" if slot.scope.domain else ""
    return f"flytectl secret create {slot.key}{project}{domain}"


def _check_value(slot: Slot, value: bytes) -> None:
    if not value:
        # systemd passes an empty credential if there is no answer: an empty value would look like that.
        raise InvalidInput(f"the value of {slot} is empty", hint="a secret has at least one byte")
    if len(value) > MAX_VALUE:
        raise InvalidInput(
            f"the value of {slot} has {len(value)} bytes; the limit is {MAX_VALUE} (512 KiB)",
            hint="keep large data in a file, encrypted, and only its key in the store",
        )


def _damaged(slot: Slot, why: str) -> NoReturn:
    again = "" if slot.internal else f", or store it again: {_create(slot)} --replace"
    raise StoreCorrupt(f"{slot} is damaged: {why}", hint=f"restore /var/lib/flyted from a backup{again}")
