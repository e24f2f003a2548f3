"""Stores the wanted state: apps and their revisions, in memory and in SQLite. What runs is known to systemd alone.

The file is read once, when it is opened. After that every question is answered from memory, and every change goes
through :meth:`Store._changing`, which replaces the app in memory at the moment of the commit. There is one writer, and
all values are frozen, so memory and file cannot differ.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from flyted.contract.app import AppSpec, from_dict, to_dict
from flyted.contract.errors import AlreadyExists, FlytedError, InvalidInput, NotFound, StoreCorrupt
from flyted.contract.names import AppKey, Replica, user_of
from flyted.host.database import WAY_BACK, Database
from flyted.host.kept_data import KeptData
from flyted.plan.facts import ImageFact, Revision, StoredApp
from flyted.plan.ingress.pools import POOLS

KEPT_REVISIONS = 10
KEPT_FAILURES = 3
"""The number of failed deploys that are kept of an app: each holds a code bundle."""


class Store:
    """The apps. Each change is one transaction, which may raise :class:`HostFailure` or :class:`StoreCorrupt`."""

    def __init__(self, path: Path) -> None:
        """Open or make the file, or raise :class:`StoreCorrupt` when it is damaged or of a newer format."""
        self.database = Database(path)
        self.kept_data = KeptData(self.database)
        self._apps: tuple[StoredApp, ...] = ()
        self._by_id: dict[str, StoredApp] = {}
        self._by_key: dict[AppKey, StoredApp] = {}
        try:
            self._keep(self._read())
            self.kept_data.all()
        except FlytedError:
            self.database.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def apps(self) -> tuple[StoredApp, ...]:
        """Return all apps, oldest first."""
        return self._apps

    def ids(self) -> frozenset[str]:
        """Return the ids of all apps."""
        return frozenset(self._by_id)

    def get(self, app_id: str) -> StoredApp | None:
        """Return the app with this id, if there is one."""
        return self._by_id.get(app_id)

    def app(self, app_id: str) -> StoredApp:
        """Return one app, or raise :class:`NotFound`."""
        found = self.get(app_id)
        if found is None:
            raise NotFound(f"there is no app '{app_id}'", hint="flytectl app ls")
        return found

    def find(self, key: AppKey) -> StoredApp | None:
        """Return the app of this name, if there is one."""
        return self._by_key.get(key)

    def known(self, key: AppKey) -> AppKey:
        """Return the key with the id that its app has, or will have, or raise as :meth:`add_revision`."""
        found = self.find(key)
        if found is not None:
            return found.key
        kept = self.kept_data.find(key)
        if kept is not None:
            key = kept.key
        self._check_free(key)
        return key

    def add_revision(
        self, spec: AppSpec, image: ImageFact, fingerprint: str, now: float, by: str = "",
        unused: Collection[str] = (),
    ) -> int:  # fmt: skip
        """Record a pending revision (and the app, if it is new), deployed by user ``by``, and return its number.

        ``unused``: as for :meth:`check_pool`; the app that gives its pool away has none from then on. Raises
        :class:`AlreadyExists` when a new app's name would give it the id or the user of another app: both are hashes
        where a name is long; and as :meth:`check_pool`.
        """
        key = self.known(spec.key)
        pool = self.check_pool(spec, unused)
        for other in [app.key.id for app in self._apps if pool is not None and app.pool == pool and app.key != key]:
            with self._changing(other):
                self.database.execute("UPDATE app SET pool = NULL WHERE id = ?", (other,))
        with self._changing(key.id):
            self.kept_data.forget(key.id)
            self.database.execute(
                "INSERT INTO app VALUES (?, ?, ?, ?, 'started', NULL, ?, ?, NULL, NULL) ON CONFLICT (id) DO NOTHING",
                (key.id, key.project, key.domain, key.name, now, now),
            )
            self.database.execute("UPDATE app SET pool = ? WHERE id = ?", (pool, key.id))
            ((last,),) = self.database.rows("SELECT max(number) FROM revision WHERE app_id = ?", (key.id,))
            number = int(last or 0) + 1
            self.database.execute(
                "INSERT INTO revision (app_id, number, spec, image, fingerprint, status, created_at, deployed_by)"
                " VALUES (?, ?, ?, ?, ?, 'pending', ?, ?)",
                (key.id, number, json.dumps(to_dict(spec)), json.dumps(image.to_dict()), fingerprint, now, by),
            )
        return number

    def check_pool(self, spec: AppSpec, unused: Collection[str] = ()) -> int | None:
        """Return the number of the ingress's pool that an app has, or will have; ``None`` for an app with one replica.

        ``unused``: ids of apps that have a pool and do not need it (plan/pool_use.py): if there is no other, one of
        these is given away. Raises :class:`InvalidInput` if all pools are in use.
        """
        found = self.find(spec.key)
        if spec.max_replicas == 1 or (found is not None and found.pool is not None):
            return found.pool if found is not None else None
        taken = {app.pool for app in self._apps}
        left = sorted(app.pool for app in self._apps if app.key.id in unused and app.pool is not None)
        free = next(iter((*(number for number in range(POOLS) if number not in taken), *left)), None)
        if free is None:
            raise InvalidInput(
                f"app '{spec.key}' may have more than one replica, as {POOLS} apps of this machine may already",
                hint="use replicas=(0, 1), or delete one of these apps",
            )
        return free

    def _check_free(self, key: AppKey) -> None:
        for other in (*(app.key for app in self._apps), *(kept.key for kept in self.kept_data.all())):
            if other == key:
                continue  # data that was kept for this app
            if other.id == key.id or user_of(other.id) == user_of(key.id):
                raise AlreadyExists(
                    f"app '{key}' cannot be distinguished from app '{other}': "
                    "both have the same short name on this machine",
                    hint="give it another name",
                )

    def serve(self, app_id: str, number: int, now: float, notes: tuple[str, ...] = ()) -> None:
        """Record that the revision is ready and serves from now on; forget older ones beyond the last few."""
        with self._changing(app_id):
            self.database.execute(
                "UPDATE revision SET status = 'ready', notes = ? WHERE app_id = ? AND number = ?",
                (json.dumps(notes), app_id, number),
            )
            self.database.execute(
                "UPDATE app SET serving = ?, serving_since = ?, wanted = 'started', updated_at = ? WHERE id = ?",
                (number, now, now, app_id),
            )
            self.database.execute(
                "DELETE FROM revision WHERE app_id = ? AND number <= ? AND number != ?",
                (app_id, number - KEPT_REVISIONS, number),
            )

    def begun(self, replica: Replica) -> None:
        """Record that a revision has had this replica, if it is one beyond those that it always has."""
        app = self.app(replica.app_id)
        if replica not in app.replicas_so_far(replica.revision):
            with self._changing(replica.app_id):
                self.database.execute(
                    "UPDATE revision SET replicas = ? WHERE app_id = ? AND number = ?",
                    (replica.number + 1, replica.app_id, replica.revision),
                )

    def fail(self, app_id: str, number: int, reason: str, now: float) -> None:
        """Record that the revision did not start, and forget older failures; what served before keeps serving.

        This works on a full disk too: the revision's row is there already.
        """
        with self._changing(app_id, freeing=True):
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
        """Record as failed the deploys that a crash or restart of the daemon cut off."""
        for app in self.apps():
            for revision in app.revisions:
                if revision.status == "pending":
                    self.fail(app.key.id, revision.number, reason, now)

    def want(self, app_id: str, wanted: str, now: float) -> None:
        """Set the wanted state, ``started`` or ``stopped``.

        ``stopped`` can be set on a full disk too, since a deletion begins with it.
        """
        with self._changing(app_id, freeing=wanted == "stopped"):
            self.database.execute("UPDATE app SET wanted = ?, updated_at = ? WHERE id = ?", (wanted, now, app_id))

    def delete(self, app_id: str, kept_since: float = 0.0) -> None:
        """Forget an app, its revisions and the tokens that open it alone, on a full disk too.

        A token must not outlive its app: it would open the next app of that name. ``kept_since``: seconds since 1970
        at which the app was deleted while its data was kept; 0: there is none left.
        """
        with self._changing(app_id, freeing=True):
            if kept_since:
                self.kept_data.keep(app_id, kept_since)
            else:
                self.kept_data.forget(app_id)
            self.database.execute("DELETE FROM token WHERE app_id = ?", (app_id,))
            self.database.execute("DELETE FROM app WHERE id = ?", (app_id,))

    @contextlib.contextmanager
    def _changing(self, app_id: str, *, freeing: bool = False) -> Iterator[None]:
        """Run one transaction on one app; memory changes with the commit, and not at all without it."""
        after: list[StoredApp] = []
        begin = self.database.freeing if freeing else self.database.transaction
        with begin(lambda: self._replace(app_id, after)):
            yield
            after += self._read(app_id)

    def _replace(self, app_id: str, after: list[StoredApp]) -> None:
        """Replace one app in memory; the others are not gone through, however many they are."""
        apps, before = list(self._apps), self._by_id.pop(app_id, None)
        if before is not None:
            del apps[bisect.bisect_left(apps, _order(before), key=_order)]
            del self._by_key[before.key]
        for app in after:
            bisect.insort(apps, app, key=_order)
            self._by_id[app.key.id] = self._by_key[app.key] = app
        self._apps = tuple(apps)

    def _keep(self, apps: list[StoredApp]) -> None:
        self._apps = tuple(sorted(apps, key=_order))
        self._by_id = {app.key.id: app for app in self._apps}
        self._by_key = {app.key: app for app in self._apps}

    def _read(self, app_id: str = "") -> list[StoredApp]:
        """Read one app, or all, or raise :class:`HostFailure` or :class:`StoreCorrupt`."""
        values = (app_id,) if app_id else ()
        with self.database.entries():
            revisions: dict[str, list[tuple[Any, ...]]] = {}
            for row in self.database.rows(_REVISIONS.format("WHERE app_id = ?" if app_id else ""), values):
                revisions.setdefault(row[0], []).append(row[1:])
            apps = self.database.rows(_APPS.format("WHERE id = ?" if app_id else ""), values)
            return [_app(row, revisions.get(row[0], [])) for row in apps]


def _order(app: StoredApp) -> tuple[float, str]:
    """Return the place of an app among the others: the oldest is first."""
    return app.created_at, app.key.id


_APPS = "SELECT id, project, domain, name, wanted, serving, created_at, updated_at, serving_since, pool FROM app {}"
_REVISIONS = (
    "SELECT app_id, number, spec, image, fingerprint, status, reason, created_at, deployed_by, notes, replicas"
    " FROM revision {}"
    " ORDER BY number"
)


def _app(row: tuple[Any, ...], revisions: list[tuple[Any, ...]]) -> StoredApp:
    app_id, project, domain, name, wanted, serving, created, updated, since, pool = row
    key = AppKey(project, domain, name).known_as(app_id)
    return StoredApp(
        key=key,
        wanted=wanted,
        serving=serving,
        revisions=tuple(_revision(key, each) for each in revisions),
        created_at=created,
        updated_at=updated,
        serving_since=since,
        pool=pool,
    )


def _revision(key: AppKey, row: tuple[Any, ...]) -> Revision:
    number, spec, image, fingerprint, status, reason, created, by, notes, replicas = row
    try:
        parsed = dataclasses.replace(from_dict(json.loads(spec)), key=key)
    except FlytedError as error:
        raise StoreCorrupt(f"revision {number} of an app is not readable: {error.message}", hint=WAY_BACK) from error
    built, told = ImageFact.from_dict(json.loads(image)), tuple(json.loads(notes))
    return Revision(number, parsed, built, fingerprint, status, reason, created, by, told, replicas)
