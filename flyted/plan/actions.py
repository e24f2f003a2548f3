"""The actions that the planner may ask for: the whole list of what the root daemon does to apps by itself. Pure.

``daemon/execute.py`` holds the only ``match`` over it.
"""

from __future__ import annotations

from dataclasses import dataclass

from flyted.contract.names import Replica


@dataclass(frozen=True)
class StartPair:
    """Make the transient ``.socket`` + ``.service`` pair; the socket listens, the service waits for a request."""

    replica: Replica


@dataclass(frozen=True)
class RenewPair:
    """Make a sleeping pair anew that another version of flyted, or other settings, would make in another way."""

    replica: Replica


@dataclass(frozen=True)
class StartService:
    """Start the service of a pair whose socket listens, without a request: for apps with a minimum of 1 replica."""

    replica: Replica


@dataclass(frozen=True)
class Sleep:
    """Stop the service; the socket stays and the next request wakes the app."""

    replica: Replica


@dataclass(frozen=True)
class EngineSleep:
    """Have a service's engine sleep without ending; the next request wakes it. If it does not sleep, stop it."""

    replica: Replica


@dataclass(frozen=True)
class StopPair:
    """Stop and forget both units of a replica that no request can reach any more."""

    replica: Replica


Action = StartPair | RenewPair | StartService | Sleep | EngineSleep | StopPair
