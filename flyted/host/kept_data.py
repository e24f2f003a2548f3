"""Stores which apps were deleted while their data was kept (SQLite): whose it is, and for which name it waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flyted.contract.names import AppKey

if TYPE_CHECKING:
    from flyted.host.database import Database


@dataclass(frozen=True)
class Kept:
    """The data of a deleted app. ``owner``: the user who deployed it last; "": not known. Time: since 1970."""

    key: AppKey
    owner: str
    deleted_at: float


class KeptData:
    """The table. Methods raise as those of :class:`Database`.

    :meth:`keep` and :meth:`forget` run inside a transaction of the caller's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: tuple[Kept, ...] | None = None

    def all(self) -> tuple[Kept, ...]:
        """Return the data of every deleted app, the oldest deletion first; the file is read after a change only."""
        if self._known is None:
            self._known = self._read()
        return self._known

    def _read(self) -> tuple[Kept, ...]:
        rows = self._database.rows("SELECT app_id, project, domain, name, owner, deleted_at FROM kept_data ORDER BY 6")
        with self._database.entries():
            return tuple(Kept(AppKey(*row[1:4]).known_as(row[0]), *row[4:]) for row in rows)

    def find(self, key: AppKey) -> Kept | None:
        """Return the data that was kept of an app of this name, if there is any."""
        return next((kept for kept in self.all() if kept.key == key), None)

    def keep(self, app_id: str, now: float) -> None:
        """Record that an app is deleted, but not its data. Its revisions must still be there: they say whose it is.

        The row takes no more room than the app's own, which is deleted in the same transaction.
        """
        self._known = None
        self._database.execute(
            "INSERT OR REPLACE INTO kept_data SELECT id, project, domain, name, coalesce((SELECT deployed_by FROM"
            " revision WHERE app_id = ?1 ORDER BY number = (SELECT serving FROM app WHERE id = ?1) DESC, number DESC"
            " LIMIT 1), ''), ?2 FROM app WHERE id = ?1",
            (app_id, now),
        )

    def claim(self, key: AppKey, owner: str, now: float) -> None:
        """Record data that was brought for an app which is still to be served; in a transaction of its own."""
        self._known = None
        with self._database.transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO kept_data VALUES (?, ?, ?, ?, ?, ?)",
                (key.id, key.project, key.domain, key.name, owner, now),
            )

    def remove(self, app_id: str) -> None:
        """Forget data that is deleted, on a full disk too; in a transaction of its own."""
        with self._database.freeing():
            self.forget(app_id)

    def forget(self, app_id: str) -> None:
        """Forget the data, if there is any: it is deleted, or an app has it again."""
        if not any(kept.key.id == app_id for kept in self.all()):
            return
        self._known = None
        self._database.execute("DELETE FROM kept_data WHERE app_id = ?", (app_id,))
