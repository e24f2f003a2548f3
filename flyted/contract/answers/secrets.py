"""The answers about secrets, never with a value. Times are in seconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass

from flyted.contract.answers.codec import Answer


@dataclass(frozen=True, slots=True)
class SecretStatus(Answer):
    """A secret of the store."""

    key: str  # KEY or GROUP/KEY
    project: str  # "": all projects
    domain: str  # "": all domains
    generation: int  # of the whole store: it grows with each change of any secret
    created_at: float
    updated_at: float
    damaged: bool  # its file is not what was written
    apps: tuple[str, ...] | None = None  # those that get it; None: not looked up, as in lists
    images: tuple[str, ...] | None = None  # the apps whose image is built with it, or pulled
    settings: tuple[str, ...] | None = None  # those of flyted.toml that name it


@dataclass(frozen=True, slots=True)
class SecretList(Answer):
    """The answer of `secret.list`."""

    secrets: tuple[SecretStatus, ...]


@dataclass(frozen=True, slots=True)
class Stored(Answer):
    """The answer of `secret.create`."""

    secret: SecretStatus
    rolled: tuple[str, ...]  # the apps that were restarted for it


@dataclass(frozen=True, slots=True)
class StoreKey(Answer):
    """The answer of `secret.identity` and `secret.rotate`."""

    recipient: str  # the public key that all secrets are encrypted to: age1…
