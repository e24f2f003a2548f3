"""Holds the settings for all apps, and facts about the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flyted.plan.facts import Platform
from flyted.plan.freeze import FreezeRules
from flyted.plan.ingress.sites import Site, shown
from flyted.plan.ingress.state import Listen
from flyted.plan.layout import Layout


@dataclass
class Config:
    """What does not change while the daemon runs, except for the sites and, with them, ``listen``.

    ``listen``: where the ingress listens. ``layout``: where our own files are. ``hosts``: the text of /etc/hosts.
    ``sites()`` returns the base domains besides the machine's own. ``preferred``: the domain that the URLs of apps are
    to have; "": the oldest site's. ``challenges()`` returns the names that are being proved to an ACME authority
    (IngressState). Times are in seconds.
    """

    base_domain: str
    listen: Listen
    nameservers: tuple[str, ...]
    start_timeout_s: int
    gpu_wait_s: int = 0
    platform: Platform = field(default_factory=Platform)
    layout: Layout = field(default_factory=Layout)
    hosts: str = ""
    freeze: FreezeRules = field(default_factory=FreezeRules)
    sites: Callable[[], tuple[Site, ...]] = tuple
    preferred: str = ""
    challenges: Callable[[], Mapping[str, str]] = dict

    @property
    def url_domain(self) -> str:
        """The base domain in the URLs of apps."""
        return shown(self.sites(), self.base_domain, self.preferred)

    @property
    def https_port(self) -> int:
        """The port on which the ingress serves HTTPS."""
        return self.listen.https_port
