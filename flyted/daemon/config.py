"""Holds the settings for all apps, and facts about the machine."""

from __future__ import annotations

from dataclasses import dataclass, field

from flyted.plan.facts import Platform
from flyted.plan.ingress.state import Listen
from flyted.plan.units import Layout


@dataclass
class Config:
    """What does not change while the daemon runs, but for ``listen`` and ``shown_domain``.

    These change with the sites. ``listen``: where the ingress listens. ``shown_domain``: the site that is in the URLs
    of apps; "": the machine's own base domain. ``layout``: where our own files are. Times are in seconds.
    """

    base_domain: str
    listen: Listen
    nameservers: tuple[str, ...]
    start_timeout_s: int
    gpu_wait_s: int = 0
    platform: Platform = field(default_factory=Platform)
    layout: Layout = field(default_factory=Layout)
    shown_domain: str = ""

    @property
    def url_domain(self) -> str:
        """The base domain in the URLs of apps."""
        return self.shown_domain or self.base_domain

    @property
    def https_port(self) -> int:
        """The port on which the ingress serves HTTPS."""
        return self.listen.https_port
