"""Holds what does not change while the daemon runs: settings for all apps, and facts about the machine."""

from __future__ import annotations

from dataclasses import dataclass, field

from flyted.plan.facts import Platform
from flyted.plan.ingress.state import Listen
from flyted.plan.units import Layout


@dataclass(frozen=True)
class Config:
    """``listen``: where the ingress listens. ``layout``: where our own files are. Times are in seconds."""

    base_domain: str
    listen: Listen
    nameservers: tuple[str, ...]
    start_timeout_s: int
    gpu_wait_s: int = 0
    platform: Platform = field(default_factory=Platform)
    layout: Layout = field(default_factory=Layout)

    @property
    def https_port(self) -> int:
        """The port on which the ingress serves HTTPS."""
        return self.listen.https_port
