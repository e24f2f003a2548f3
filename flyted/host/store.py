"""What the user wants, in SQLite: apps and their revisions. systemd is the truth about what runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from flyted.contract.app import AppSpec, from_dict, to_dict
from flyted.contract.errors import AlreadyExists, FlytedError, NotFound, StoreCorrupt
from flyted.contract.names import AppKey, user_of
from flyted.host.database import Database
from flyted.plan.facts import ImageFact, Revision, StoredApp

KEPT_REVISIONS = 10
KEPT_FAILURES = 3
"""How many failed deploys of an app are kept: each holds a code bundle."""


class Store:
    """The apps. Every method is one transaction; errors are :class:`HostFailure` or :class:`StoreCorrupt`."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file. Raises :class:`StoreCorrupt` when it is damaged or of a newer format."""
        self.database = Database(path)

    def close(self) -> None:
        """Closes the file."""
        self.database.close()

    def apps(self) -> tuple[StoredApp, ...]:
        """All apps, oldest first."""
        with self.database.errors():
            return tuple(self._app(row) for row in self.database.rows(_SELECT + " ORDER BY created_at, id"))

    def ids(self) -> frozenset[str]:
        """The ids of all apps, without reading what they are."""
        return frozenset(str(app_id) for (app_id,) in self.database.rows("SELECT id FROM app"))

    def app(self, app_id: str) -> StoredApp:
        """One app. Raises :class:`NotFound`."""
        with self.database.errors():
            for row in self.database.rows(_SELECT + " WHERE id = ?", (app_id,)):
                return self._app(row)
        raise NotFound(f"there is no app '{app_id}'", hint="flytectl app ls")

    def find(self, key: AppKey) -> StoredApp | None:
        """The app of this name, if there is one."""
        with self.database.errors():
            where = " WHERE project = ? AND domain = ? AND name = ?"
            for row in self.database.rows(_SELECT + where, (key.project, key.domain, key.name)):
                return self._app(row)
        return None

    def known(self, key: AppKey) -> AppKey:
        """The key with the id that its app has, or will have. Raises as :meth:`add_revision`."""
        found = self.find(key)
        if found is None:
            self._check_free(key)
        return key if found is None else found.key

    def add_revision(self, spec: AppSpec, image: ImageFact, fingerprint: str, now: float) -> int:
        """Records a pending revision (and the app, if it is new) and returns its number.

        Raises :class:`AlreadyExists` when a new app's name would give it the id or the user of another app: both are
        hashes where a name is long.
        """
        with self.database.transaction():
            key = self.known(spec.key)
            self.database.execute(
                "INSERT INTO app VALUES (?, ?, ?, ?, 'started', NULL, ?, ?, NULL) ON CONFLICT (id) DO NOTHING",
                (key.id, key.project, key.domain, key.name, now, now),
            )
            ((last,),) = self.database.rows("SELECT max(number) FROM revision WHERE app_id = ?", (key.id,))
            number = int(last or 0) + 1
            self.database.execute(
                "INSERT INTO revision VALUES (?, ?, ?, ?, ?, 'pending', '', ?)",
                (key.id, number, json.dumps(to_dict(spec)), json.dumps(image.to_dict()), fingerprint, now),
            )
        return number

    def _check_free(self, key: AppKey) -> None:
        for app_id, project, domain, name in self.database.rows("SELECT id, project, domain, name FROM app"):
            if app_id == key.id or user_of(app_id) == user_of(key.id):
                raise AlreadyExists(
                    f"app '{key}' cannot be told from app '{AppKey(project, domain, name)}', which is another one: "
                    "the short names that this machine makes of both are the same",
                    hint="give it another name",
                )

    def serve(self, app_id: str, number: int, now: float) -> None:
        """The revision is ready and serves from now on; older ones beyond the last few are forgotten."""
        with self.database.transaction():
            self.database.execute(
                "UPDATE revision SET status = 'ready' WHERE app_id = ? AND number = ?", (app_id, number)
            )
            self.database.execute(
                "UPDATE app SET serving = ?, serving_since = ?, wanted = 'started', updated_at = ? WHERE id = ?",
                (number, now, now, app_id),
            )
            self.database.execute(
                "DELETE FROM revision WHERE app_id = ? AND number <= ? AND number != ?",
                (app_id, number - KEPT_REVISIONS, number),
            )

    def fail(self, app_id: str, number: int, reason: str, now: float) -> None:
        """The revision did not come up; what served before keeps serving. Older failures go."""
        with self.database.transaction():
            self.database.execute(
                "UPDATE revision SET status = 'failed', reason = ? WHERE app_id = ? AND number = ?",
                (reason, app_id, number),
            )
            self.database.execute(
                "DELETE FROM revision WHERE app_id = ?1 AND status = 'failed' AND number NOT IN (SELECT number FROM"
                " revision WHERE app_id = ?1 AND status = 'failed' ORDER BY number DESC LIMIT ?2)",
                (app_id, KEPT_FAILURES),
            )
            self.database.execute("UPDATE app SET updated_at = ? WHERE id = ?", (now, app_id))

    def fail_pending(self, reason: str, now: float) -> None:
        """Deploys that a crash or restart of the daemon cut off are failed ones."""
        for app in self.apps():
            for revision in app.revisions:
                if revision.status == "pending":
                    self.fail(app.key.id, revision.number, reason, now)

    def want(self, app_id: str, wanted: str, now: float) -> None:
        """Sets the wanted state, ``started`` or ``stopped``: that on a full disk too, since a deletion begins so."""
        with self.database.freeing() if wanted == "stopped" else self.database.transaction():
            self.database.execute("UPDATE app SET wanted = ?, updated_at = ? WHERE id = ?", (wanted, now, app_id))

    def delete(self, app_id: str) -> None:
        """Forgets an app, its revisions and the tokens that open it alone; on a full disk too.

        A token must not outlive its app: it would open the next one of that name.
        """
        with self.database.freeing():
            self.database.execute("DELETE FROM token WHERE app_id = ?", (app_id,))
            self.database.execute("DELETE FROM app WHERE id = ?", (app_id,))

    def _app(self, row: tuple[Any, ...]) -> StoredApp:
        app_id, project, domain, name, wanted, serving, created, updated, since = row
        revisions = self.database.rows(
            "SELECT number, spec, image, fingerprint, status, reason, created_at FROM revision"
            " WHERE app_id = ? ORDER BY number",
            (app_id,),
        )
        key = AppKey(project, domain, name).known_as(app_id)
        return StoredApp(
            key=key,
            wanted=wanted,
            serving=serving,
            revisions=tuple(_revision(key, r) for r in revisions),
            created_at=created,
            updated_at=updated,
            serving_since=since,
        )


_SELECT = "SELECT id, project, domain, name, wanted, serving, created_at, updated_at, serving_since FROM app"


def _revision(key: AppKey, row: tuple[Any, ...]) -> Revision:
    number, spec, image, fingerprint, status, reason, created = row
    try:
        parsed = dataclasses.replace(from_dict(json.loads(spec)), key=key)
    except FlytedError as error:
        raise StoreCorrupt(f"revision {number} of an app is not readable: {error.message}") from error
    return Revision(number, parsed, ImageFact.from_dict(json.loads(image)), fingerprint, status, reason, created)
