"""Caches what follows from apps alone, in groups of some dozen, for passes in which most apps sleep. Pure.

What the ingress has of an app that sleeps, and that nothing is to be done about it, follows from the app as it is
stored. So a pass takes a group's share as it is while none of its apps has changed and all of them rest.

A group has 32 apps. A pass with 1,000 sleeping apps runs a few hundred calls of Python more than one with ten,
instead of a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from functools import cached_property

from flyted.contract.names import Replica
from flyted.plan.facts import StoredApp
from flyted.plan.ingress.state import Server, Unavailable

SIZE = 32


@dataclass
class Share:
    """What the ingress has of some apps: the tables of an :class:`IngressState`."""

    servers: dict[str, Server] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    timeouts_ms: dict[str, int] = field(default_factory=dict)
    unavailable: dict[str, Unavailable] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)
    guarded: dict[str, str] = field(default_factory=dict)
    restricted: dict[str, str] = field(default_factory=dict)
    open_paths: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    sticky: dict[str, str] = field(default_factory=dict)
    callers: dict[str, str] = field(default_factory=dict)
    calls: dict[str, str] = field(default_factory=dict)
    watched: dict[str, int] = field(default_factory=dict)
    awake: dict[str, str] = field(default_factory=dict)
    cold: dict[str, str] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)

    def add(self, other: Share) -> None:
        """Take over another share."""
        for table in _TABLES:
            if found := getattr(other, table):
                getattr(self, table).update(found)


_TABLES = tuple(each.name for each in fields(Share))


@dataclass(frozen=True)
class Group:
    """Some apps, and what is known of them while they do not change."""

    apps: tuple[StoredApp, ...]
    shares: dict[Hashable, Share] = field(default_factory=dict, compare=False)

    @cached_property
    def replicas(self) -> dict[str, Replica]:
        """The replicas that shall exist, by the names of their services."""
        return {replica.service: replica for app in self.apps for replica in app.serving_replicas}

    @cached_property
    def names(self) -> frozenset[str]:
        """The units of the replicas that shall exist."""
        return frozenset(name for each in self.replicas.values() for name in (each.socket, each.service))

    @cached_property
    def ids(self) -> frozenset[str]:
        """The apps' ids."""
        return frozenset(app.key.id for app in self.apps)

    @cached_property
    def callers(self) -> tuple[Replica, ...]:
        """The replicas that call other apps."""
        calling = (app for app in self.apps if app.current is not None and app.current.spec.calls)
        return tuple(replica for app in calling for replica in app.serving_replicas)

    @cached_property
    def may_rest(self) -> bool:
        """True if no app has a minimum of replicas, which would have to run."""
        serving = (app.current for app in self.apps if app.serving_replicas)
        return not any(revision is not None and revision.spec.min_replicas for revision in serving)

    @cached_property
    def pooled(self) -> frozenset[str]:
        """The ids of apps that may have more than one replica."""
        return frozenset(app.key.id for app in self.apps if app.pooled)

    def rests(self, sleeping: AbstractSet[str], awake: AbstractSet[str], candidates: Iterable[Replica]) -> bool:
        """Report whether all of the apps sleep or are stopped, and nothing is to be done about them.

        ``sleeping``: the services of pairs that sleep, without those that are being worked on. ``awake``: the ids of
        apps that have, or need, units beyond those of their least replicas. ``candidates``: the replicas that are
        being deployed.
        """
        return (
            self.may_rest
            and self.replicas.keys() <= sleeping
            and self.pooled.isdisjoint(awake)
            and all(replica.app_id not in self.ids for replica in candidates)
        )

    def share(self, key: Hashable, made: Callable[[], Share]) -> Share:
        """Return the share of apps that rest; it is made once. ``key``: all else that it depends on."""
        if key not in self.shares:
            self.shares[key] = made()
        return self.shares[key]


class Groups:
    """The groups of the last pass. They are found again by the apps in them, which the store replaces to change."""

    def __init__(self) -> None:
        self._groups: list[Group] = []

    def of(self, apps: tuple[StoredApp, ...]) -> list[Group]:
        """Return the apps in groups, in their order."""
        self._groups = list(self._found(apps))
        return self._groups

    def _found(self, apps: tuple[StoredApp, ...]) -> Iterator[Group]:
        before = self._groups
        for number, start in enumerate(range(0, len(apps), SIZE)):
            some = apps[start : start + SIZE]
            known = before[number] if number < len(before) else None
            # tuples compare an item with itself by its identity: a group without a change costs next to nothing
            yield known if known is not None and known.apps == some else Group(some)
