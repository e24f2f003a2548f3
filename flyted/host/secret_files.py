"""Stores the secrets on disk: sealed files, the manifest that authenticates them, the last seen generation.

It handles names, digests and sealed bytes, never a key that opens secrets, nor a value. The order of its writes is the
point of this file:

1. the new secret file, under a name never used before; 2. the manifest: this rename is the commit;
3. ``generation``, outside the folder; 4. the file that was replaced is removed.

If the daemon is killed between any two, its next start finds the store at the old or the new manifest, complete, and
sweeps the rest.
"""

from __future__ import annotations

import contextlib
import errno
import re
from typing import TYPE_CHECKING

from flyted.contract.errors import HostFailure, StoreCorrupt
from flyted.host import manifest, reserve
from flyted.host.manifest import Manifest
from flyted.host.private_dir import PrivateDir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flyted.host.manifest import Slot

MANIFEST = "manifest"
_GENERATION = "generation"
SECRETS = "secrets"
ROTATION_ASKED, ROTATING, ROTATED = "rotate", "rotating", "rotated"
"""Names beside the folder of secrets; ``rotation`` says what they mean."""
_MAX_MANIFEST = 8 * 1024 * 1024
_ROLLBACK_HINT = (
    "if you restored a backup on purpose: flytectl secret accept-rollback (as root); if not, somebody restored old "
    "secrets: restore the newest backup, and replace the keys that it holds"
)


class SecretFiles:
    """One open store. ``current``: the committed manifest. ``refusal``: why it is not to be trusted, if it is not."""

    def __init__(self, state: PrivateDir, secrets: PrivateDir, key: bytes) -> None:
        """Use ``open``."""
        self._state, self._secrets, self._key = state, secrets, key
        self.current = Manifest()
        self.refusal: StoreCorrupt | None = None
        self._can_accept = False

    @classmethod
    def open(cls, directory: Path, key: bytes) -> SecretFiles:
        """Open the store below ``directory``, and lock it; make a new one if there is none.

        Raises as ``Vault.open``.
        """
        with contextlib.ExitStack() as on_error:
            state = PrivateDir.open(directory, forbidden=0o022)
            on_error.callback(state.close)
            if ROTATED in state.names():
                raise HostFailure("a rotation of the identity is not finished", hint="systemctl restart flyted")
            secrets = state.private_child(SECRETS)
            on_error.callback(secrets.close)
            secrets.lock()
            store = cls(state, secrets, key)
            with host_errors("the secret store cannot be opened"):
                store._load()
            on_error.pop_all()
            return store

    def close(self) -> None:
        """Close the store, so that another process can open it."""
        self._secrets.close()
        self._state.close()

    def read(self, name: str, limit: int) -> bytes | None:
        """Return the bytes of a secret file, as ``PrivateDir.read``."""
        return self._secrets.read(name, limit)

    def commit(self, new: Manifest, file: str = "", sealed: bytes = b"") -> None:
        """Make ``new`` the manifest, with ``sealed`` as its one new file, and remove files that it no longer lists.

        All bytes are on disk under temporary names before the first rename, so a full disk changes nothing.
        Raises ``OSError``, after which nothing has changed, and ``HostFailure``, which says that ``new`` counts.
        """
        with contextlib.ExitStack() as staged:
            secret = staged.enter_context(self._secrets.staged(file, sealed)) if file else None
            table = staged.enter_context(self._secrets.staged(MANIFEST, manifest.encode(new, self._key)))
            seen = staged.enter_context(self._state.staged(_GENERATION, b"%d\n" % new.generation))
            try:
                if secret is not None:
                    secret.publish()
                    self._secrets.sync()  # a power cut must not keep the manifest and lose the file
                table.publish()
            except BaseException:
                self._secrets.remove(file)
                raise
            replaced, self.current = self.current.files() - new.files(), new
            with host_errors("the change was made, but a power failure may undo it"):
                self._secrets.sync()
                seen.publish()
                self._state.sync()
        for name in replaced:
            self._secrets.remove(name)

    def drop(self, slot: Slot) -> None:
        """Commit a manifest without ``slot``, on a full disk too.

        Raises as ``commit``.
        """
        with reserve.released(self._state.path):
            self.commit(self.current.drop(slot))

    def ask_rotation(self) -> None:
        """Leave a request for a new identity to ``rotation``, which runs before flyted's next start.

        Raises ``HostFailure``.
        """
        with host_errors("the rotation was not started"):
            try:
                self._state.write(ROTATION_ASKED, b"")
                self._state.sync()
            except OSError:
                self._state.remove(ROTATION_ASKED)
                raise

    def unlisted(self) -> list[str]:
        """Return the names of the secret files that an accepted rollback has left."""
        return [n for n in self._secrets.names() if manifest.generation_of(n) and not manifest.is_secret_file(n)]

    def accept_rollback(self) -> None:
        """Accept an older store, see ``Vault.accept_rollback``."""
        if self.refusal is None:
            return
        if not self._can_accept:
            raise self.refusal
        with host_errors("the rollback was not accepted"):
            names = self._secrets.names()
            newest = max([self.current.generation, self._seen() or 0, *map(manifest.generation_of, names)])
            for name in set(filter(manifest.is_secret_file, names)) - self.current.files():
                self._secrets.rename(name, name + manifest.UNLISTED)
            self.commit(Manifest(newest + 1, self.current.entries))
        self.refusal, self._can_accept = None, False

    def _load(self) -> None:
        self._secrets.sweep_staged()
        self._state.sweep_staged()
        self._state.remove_tree(ROTATING)
        self._state.remove(ROTATION_ASKED)  # of a rotation that was reported as failed: it must not happen much later
        files = set(filter(manifest.is_secret_file, self._secrets.names()))
        seen = self._seen()
        try:
            data = self._secrets.read(MANIFEST, _MAX_MANIFEST)
        except StoreCorrupt as error:
            self.refusal = StoreCorrupt(f"the manifest of the secret store {error.message}", hint=manifest.RESTORE)
            return
        try:
            self.current = Manifest() if data is None else manifest.decode(data, self._key)
        except StoreCorrupt as error:
            self.refusal = error
            return
        if data is None and not files and not seen:
            self._begin()
        elif data is None or seen is None or seen > self.current.generation:
            self._refuse(seen, missing=data is None)
        else:
            self._catch_up(seen, files)

    def _begin(self) -> None:
        # In this order, so that being killed in between is not mistaken for a rollback.
        self._write_seen(0)
        self.commit(Manifest(generation=1))

    def _catch_up(self, seen: int, files: set[str]) -> None:
        """Finish a change that was killed after its commit, or take back one that was killed before it."""
        if seen < self.current.generation:
            with contextlib.suppress(OSError):  # a full disk must not keep the daemon down; the next commit writes it
                self._write_seen(self.current.generation)
        for name in files - self.current.files():
            self._secrets.remove(name)

    def _refuse(self, seen: int | None, *, missing: bool) -> None:
        if missing:
            what = "its manifest is missing"
        elif seen is None:
            what = f"{self._state.path / _GENERATION} is gone, or not a number"
        else:
            what = f"it is at generation {self.current.generation}, and this machine has seen {seen}"
        self.refusal = StoreCorrupt(f"the secret store is older than it should be: {what}", hint=_ROLLBACK_HINT)
        self._can_accept = True

    def _seen(self) -> int | None:
        with contextlib.suppress(StoreCorrupt):
            found = re.fullmatch(rb"([0-9]{1,18})\n", self._state.read(_GENERATION, 64) or b"")
            return int(found[1]) if found else None
        return None

    def _write_seen(self, generation: int) -> None:
        self._state.write(_GENERATION, b"%d\n" % generation)
        self._state.sync()


@contextlib.contextmanager
def host_errors(unchanged: str) -> Iterator[None]:
    """Raise ``HostFailure`` for an ``OSError``; ``unchanged`` says what did not happen, and what is still the case.

    So the block ends where the change is made: an error behind that has words of its own.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HostFailure(
                f"disk full: {unchanged}", hint="free some space on the disk of /var/lib/flyted, then try again"
            ) from error
        raise HostFailure(f"{unchanged}: {error.strerror}") from error
