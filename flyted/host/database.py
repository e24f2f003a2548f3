"""Opens flyted.db, brings it to the newest format, and makes each change in one transaction.

The tables are those of ``store``, ``tokens``, ``gpu_records``, ``models``, ``sites``, ``orders``, ``issued``,
``kept_data`` and ``volumes``.
There is one writer (the daemon's event loop), and a change is flushed to disk before the answer: after a crash
everything is in its old or its new state. A file of a newer format is refused, never overwritten.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flyted.contract.errors import AlreadyExists, FlytedError, HostFailure, StoreCorrupt
from flyted.host import reserve

_APPS = """
CREATE TABLE app (
    id TEXT PRIMARY KEY, project TEXT NOT NULL, domain TEXT NOT NULL, name TEXT NOT NULL,
    wanted TEXT NOT NULL CHECK (wanted IN ('started', 'stopped')), serving INTEGER,
    created_at REAL NOT NULL, updated_at REAL NOT NULL, UNIQUE (project, domain, name)
) STRICT;
CREATE TABLE revision (
    app_id TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE, number INTEGER NOT NULL,
    spec TEXT NOT NULL, image TEXT NOT NULL, fingerprint TEXT NOT NULL, status TEXT NOT NULL
    CHECK (status IN ('pending', 'ready', 'failed')), reason TEXT NOT NULL DEFAULT '', created_at REAL NOT NULL,
    PRIMARY KEY (app_id, number)
) STRICT;
"""
# app_id is no foreign key: '' stands for every app
_TOKENS = """
CREATE TABLE token (
    digest TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('session', 'named', 'browser')),
    user TEXT NOT NULL, uid INTEGER NOT NULL, app_id TEXT NOT NULL, name TEXT NOT NULL,
    created_at REAL NOT NULL, expires_at REAL NOT NULL
) STRICT;
CREATE INDEX token_of_user ON token (uid, kind);
"""
# no foreign keys to app: the memory of an app that was deleted may still have to come back
_GPUS = """
CREATE TABLE gpu_lease (
    unit TEXT PRIMARY KEY, app_id TEXT NOT NULL, revision INTEGER NOT NULL, devices TEXT NOT NULL,
    since REAL NOT NULL, reserve_bytes INTEGER NOT NULL, unexplained TEXT NOT NULL, ended_at REAL
) STRICT;
CREATE TABLE gpu_learned (app_id TEXT PRIMARY KEY, peak_bytes INTEGER NOT NULL, load_s REAL NOT NULL) STRICT;
"""
_MODELS = "CREATE TABLE model (name TEXT PRIMARY KEY, folder TEXT NOT NULL, added_at REAL NOT NULL) STRICT;"
WAY_BACK = (
    "restore flyted.db from a backup, or begin without apps, keeping their data: sudo flyted --new-database "
    "(man 8 flyted, RECOVERY)"
)
_SINCE = """
ALTER TABLE app ADD COLUMN serving_since REAL;
UPDATE app SET serving_since = (SELECT created_at FROM revision WHERE app_id = app.id AND number = app.serving);
"""
_WHO = "ALTER TABLE revision ADD COLUMN deployed_by TEXT NOT NULL DEFAULT '';"
_NOTES = "ALTER TABLE revision ADD COLUMN notes TEXT NOT NULL DEFAULT '[]';"
_USED = "ALTER TABLE token ADD COLUMN used_at REAL NOT NULL DEFAULT 0;"
_SITES = "CREATE TABLE site (domain TEXT PRIMARY KEY, certificate TEXT NOT NULL, created_at REAL NOT NULL) STRICT;"
_ACME = """
ALTER TABLE site ADD COLUMN acme TEXT NOT NULL DEFAULT '';
CREATE TABLE certificate_order (
    name TEXT PRIMARY KEY, site TEXT NOT NULL, failed TEXT NOT NULL, why TEXT NOT NULL, hint TEXT NOT NULL,
    server TEXT NOT NULL
) STRICT;
"""
_API = "ALTER TABLE site ADD COLUMN api INTEGER NOT NULL DEFAULT 0;"
_ISSUED = """
CREATE TABLE certificate_issued (
    fingerprint TEXT PRIMARY KEY, name TEXT NOT NULL, site TEXT NOT NULL, acme TEXT NOT NULL, chain TEXT NOT NULL,
    ends REAL NOT NULL, revoke TEXT NOT NULL CHECK (revoke IN ('', 'wanted', 'revoked')), failed TEXT NOT NULL,
    why TEXT NOT NULL, hint TEXT NOT NULL
) STRICT;
"""
_KEPT_DATA = """
CREATE TABLE kept_data (
    app_id TEXT PRIMARY KEY, project TEXT NOT NULL, domain TEXT NOT NULL, name TEXT NOT NULL, owner TEXT NOT NULL,
    deleted_at REAL NOT NULL, UNIQUE (project, domain, name)
) STRICT;
"""
_VOLUMES = """
CREATE TABLE volume (
    name TEXT PRIMARY KEY, folder TEXT NOT NULL, read_only INTEGER NOT NULL, added_at REAL NOT NULL
) STRICT;
"""
_REDIRECT = "ALTER TABLE site ADD COLUMN redirect TEXT NOT NULL DEFAULT '';"
_POOL = "ALTER TABLE app ADD COLUMN pool INTEGER;"
_REPLICAS = "ALTER TABLE revision ADD COLUMN replicas INTEGER NOT NULL DEFAULT 0;"
FORMATS = (
    _APPS, _TOKENS, _GPUS, _MODELS, _SINCE, _WHO, _NOTES, _USED, _SITES, _ACME, _API, _ISSUED, _REDIRECT, _POOL,
    _KEPT_DATA, _VOLUMES, _REPLICAS,
)  # fmt: skip
"""What each format adds to the one before; new ones go at the end. ``user_version`` counts them."""


def is_new(path: Path) -> bool:
    """Report whether there is no database yet, or one without content.

    Raises :class:`StoreCorrupt` for a damaged one, :class:`HostFailure` when the disk refuses.
    """
    if not path.exists():
        return True
    _check_ours(path)
    with _errors(path), contextlib.closing(sqlite3.connect(path)) as found:
        (number,) = found.execute("PRAGMA user_version").fetchone()
        return not number


def begin_anew(path: Path) -> tuple[Path, ...]:
    """Create an empty database in place of a missing or damaged one; return the files that were there before.

    They are kept, under the new names that are returned (``flyted.db.lost-1``, …). Raises :class:`AlreadyExists` for a
    good database, :class:`HostFailure` when the disk refuses.
    """
    with contextlib.suppress(StoreCorrupt):
        if not is_new(path):
            raise AlreadyExists(f"{path} is intact: nothing is lost")
    number = next(n for n in range(1, 1000) if not path.with_name(f"{path.name}.lost-{n}").exists())
    kept = []
    for suffix in ("", "-wal", "-shm"):
        old = path.with_name(path.name + suffix)
        if old.exists():
            kept.append(old.rename(path.with_name(f"{path.name}.lost-{number}{suffix}")))
    Database(path).close()
    return tuple(kept)


class Database:
    """The open file. Methods raise :class:`HostFailure` (disk) or :class:`StoreCorrupt`."""

    def __init__(self, path: Path) -> None:
        """Open or make the file, or raise :class:`StoreCorrupt` when it is damaged or of a newer format."""
        self._path = path
        _check_ours(path)
        with _errors(self._path):
            self._db = sqlite3.connect(path, isolation_level=None)
        try:
            self._prepare()
        except FlytedError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        with _errors(self._path):
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA temp_store = MEMORY")  # /tmp may be on the disk that is full
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            if found > len(FORMATS):
                raise StoreCorrupt(
                    f"{self._path} has format {found}, and this version of flyted knows {len(FORMATS)}",
                    hint="install the newer flyted again, or restore the file from a backup",
                )
            for number, step in enumerate(FORMATS[found:], found + 1):
                self._db.executescript(f"BEGIN; {step} PRAGMA user_version = {number}; COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with _errors(self._path):
            return self._db.execute(query, values).fetchall()

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> int:
        """Run one statement inside a :meth:`transaction`, and return how many rows it changed."""
        return self._db.execute(statement, values).rowcount

    @contextlib.contextmanager
    def transaction(self, committed: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Run the body as one transaction, all of it or nothing, and call ``committed`` once it is on disk."""
        with _errors(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
            committed()

    @contextlib.contextmanager
    def freeing(self, committed: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Run a :meth:`transaction` that also works on a full disk: to remove entries, never to add any."""
        with reserve.released(self._path.parent):
            with self.transaction(committed):
                yield
            with contextlib.suppress(sqlite3.Error):  # the log's space goes back to the reserve
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextlib.contextmanager
    def entries(self) -> Iterator[None]:
        """Raise :class:`StoreCorrupt` if the body, which makes values of rows, finds an invalid one."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreCorrupt(f"{self._path} contains an invalid entry: {error}", hint=WAY_BACK) from error


def _check_ours(path: Path) -> None:
    """Raise :class:`StoreCorrupt` for anything but a regular file of ours, or none.

    SQLite's error for such a file is the same as for a full disk.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise StoreCorrupt(f"{path} is not a regular file", hint=WAY_BACK)
    if not os.access(path, os.R_OK | os.W_OK):
        raise StoreCorrupt(
            f"flyted may not open {path} (owner {found.st_uid}, mode {found.st_mode & 0o7777:04o})",
            hint=f"if it is flyted's own: chown 0:0 {path} && chmod 600 {path}",
        )


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "full" in text or "I/O" in text or "readonly" in text or "unable to open" in text:
            raise HostFailure(f"cannot write {path}: {text}", hint="make room on that disk") from error
        raise StoreCorrupt(f"{path}: {text}", hint=WAY_BACK) from error
