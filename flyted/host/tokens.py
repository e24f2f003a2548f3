"""Stores tokens in SQLite: their digests and owners, never a token's text."""

from __future__ import annotations

from collections.abc import Mapping

from flyted.contract.errors import NotFound
from flyted.host.database import Database
from flyted.plan.tokens import Token

_ALL = "SELECT digest, id, kind, user, uid, app_id, name, created_at, expires_at, used_at FROM token"


class Tokens:
    """The table of tokens. Every method is one transaction, and raises as :class:`Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, token: Token, forget: frozenset[str] = frozenset()) -> None:
        """Store a token, and delete those with a digest in ``forget`` in the same transaction."""
        with self._database.transaction():
            for digest in forget:
                self._database.execute("DELETE FROM token WHERE digest = ?", (digest,))
            self._database.execute(
                "INSERT INTO token (digest, id, kind, user, uid, app_id, name, created_at, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    token.digest, token.id, token.kind, token.user, token.uid, token.app_id, token.name,
                    token.created_at, token.expires_at,
                ),
            )  # fmt: skip

    def find(self, digest: str) -> Token:
        """Return the token with this digest, expired or not, or raise :class:`NotFound`."""
        for row in self._database.rows(f"{_ALL} WHERE digest = ?", (digest,)):
            return Token(*row)
        raise NotFound("there is no such token")

    def all(self) -> tuple[Token, ...]:
        """Return every token, oldest first."""
        return tuple(Token(*row) for row in self._database.rows(f"{_ALL} ORDER BY created_at, digest"))

    def used(self, days: Mapping[str, float]) -> None:
        """Record the day on which each token was last used (digest → seconds since 1970)."""
        if days:
            with self._database.transaction():
                for digest, day in days.items():
                    self._database.execute("UPDATE token SET used_at = ? WHERE digest = ?", (day, digest))

    def remove(self, digests: frozenset[str]) -> None:
        """Delete the tokens with these digests, on a full disk too."""
        with self._database.freeing():
            for digest in digests:
                self._database.execute("DELETE FROM token WHERE digest = ?", (digest,))
