"""What the user wants, in SQLite: apps and their revisions. systemd is the truth about what runs.

One writer (the daemon's event loop), one transaction per change, flushed to disk before the answer: after a crash
every app is in its old or its new state. A file of a newer format is refused, never overwritten.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flyted.contract.app import AppSpec, from_dict, to_dict
from flyted.contract.errors import FlytedError, HostFailure, NotFound, StoreCorrupt
from flyted.contract.names import AppKey
from flyted.plan.facts import ImageFact, Revision, StoredApp

FORMAT = 1
KEPT_REVISIONS = 10

_SCHEMA = """
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


class Store:
    """The database. Every method is one transaction; errors are :class:`HostFailure` or :class:`StoreCorrupt`."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file. Raises :class:`StoreCorrupt` when it is damaged or of a newer format."""
        self._path = path
        with self._errors():
            self._db = sqlite3.connect(path, isolation_level=None)
        try:
            self._prepare()
        except FlytedError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        with self._errors():
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            if found == 0:
                self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT")
            elif found != FORMAT:
                raise StoreCorrupt(
                    f"{self._path} has format {found}, this flyted knows {FORMAT}",
                    hint="install the newer flyted again, or restore the file from a backup",
                )

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def apps(self) -> tuple[StoredApp, ...]:
        """All apps, oldest first."""
        with self._errors():
            rows = self._db.execute(_SELECT + " ORDER BY created_at, id").fetchall()
            return tuple(self._app(row) for row in rows)

    def app(self, app_id: str) -> StoredApp:
        """One app. Raises :class:`NotFound`."""
        with self._errors():
            row = self._db.execute(_SELECT + " WHERE id = ?", (app_id,)).fetchone()
            if row is None:
                raise NotFound(f"there is no app '{app_id}'", hint="flytectl app ls")
            return self._app(row)

    def add_revision(self, spec: AppSpec, image: ImageFact, fingerprint: str, now: float) -> int:
        """Records a pending revision (and the app, if it is new) and returns its number."""
        key = spec.key
        with self._transaction():
            self._db.execute(
                "INSERT INTO app VALUES (?, ?, ?, ?, 'started', NULL, ?, ?) ON CONFLICT (id) DO NOTHING",
                (key.id, key.project, key.domain, key.name, now, now),
            )
            (last,) = self._db.execute("SELECT max(number) FROM revision WHERE app_id = ?", (key.id,)).fetchone()
            number = int(last or 0) + 1
            self._db.execute(
                "INSERT INTO revision VALUES (?, ?, ?, ?, ?, 'pending', '', ?)",
                (key.id, number, json.dumps(to_dict(spec)), json.dumps(image.to_dict()), fingerprint, now),
            )
        return number

    def serve(self, app_id: str, number: int, now: float) -> None:
        """The revision is ready and serves from now on; older ones beyond the last few are forgotten."""
        with self._transaction():
            self._db.execute("UPDATE revision SET status = 'ready' WHERE app_id = ? AND number = ?", (app_id, number))
            self._db.execute(
                "UPDATE app SET serving = ?, wanted = 'started', updated_at = ? WHERE id = ?", (number, now, app_id)
            )
            self._db.execute(
                "DELETE FROM revision WHERE app_id = ? AND number <= ? AND number != ?",
                (app_id, number - KEPT_REVISIONS, number),
            )

    def fail(self, app_id: str, number: int, reason: str, now: float) -> None:
        """The revision did not come up; what served before keeps serving."""
        with self._transaction():
            self._db.execute(
                "UPDATE revision SET status = 'failed', reason = ? WHERE app_id = ? AND number = ?",
                (reason, app_id, number),
            )
            self._db.execute("UPDATE app SET updated_at = ? WHERE id = ?", (now, app_id))

    def fail_pending(self, reason: str, now: float) -> None:
        """Deploys that a crash or restart of the daemon cut off are failed ones."""
        for app in self.apps():
            for revision in app.revisions:
                if revision.status == "pending":
                    self.fail(app.key.id, revision.number, reason, now)

    def want(self, app_id: str, wanted: str, now: float) -> None:
        """Sets the wanted state, ``started`` or ``stopped``."""
        with self._transaction():
            self._db.execute("UPDATE app SET wanted = ?, updated_at = ? WHERE id = ?", (wanted, now, app_id))

    def delete(self, app_id: str) -> None:
        """Forgets an app and its revisions."""
        with self._transaction():
            self._db.execute("DELETE FROM app WHERE id = ?", (app_id,))

    def _app(self, row: tuple[Any, ...]) -> StoredApp:
        app_id, project, domain, name, wanted, serving, created, updated = row
        revisions = self._db.execute(
            "SELECT number, spec, image, fingerprint, status, reason, created_at FROM revision"
            " WHERE app_id = ? ORDER BY number",
            (app_id,),
        ).fetchall()
        return StoredApp(
            key=AppKey(project, domain, name),
            wanted=wanted,
            serving=serving,
            revisions=tuple(_revision(r) for r in revisions),
            created_at=created,
            updated_at=updated,
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            text = str(error)
            if "full" in text or "I/O" in text or "readonly" in text or "unable to open" in text:
                raise HostFailure(f"cannot write {self._path}: {text}", hint="make room on that disk") from error
            raise StoreCorrupt(f"{self._path}: {text}", hint="restore the file from a backup") from error
        except (json.JSONDecodeError, KeyError) as error:
            raise StoreCorrupt(f"{self._path} holds an entry that makes no sense: {error}") from error


_SELECT = "SELECT id, project, domain, name, wanted, serving, created_at, updated_at FROM app"


def _revision(row: tuple[Any, ...]) -> Revision:
    number, spec, image, fingerprint, status, reason, created = row
    try:
        parsed = from_dict(json.loads(spec))
    except FlytedError as error:
        raise StoreCorrupt(f"revision {number} of an app is not readable: {error.message}") from error
    return Revision(number, parsed, ImageFact.from_dict(json.loads(image)), fingerprint, status, reason, created)
