"""What does not change while the daemon runs: settings for all apps, and what its start found of the machine."""

from __future__ import annotations

from dataclasses import dataclass

from flyted.plan.ingress.state import Listen


@dataclass(frozen=True)
class Config:
    """``listen``: where the ingress listens. Times are in seconds, for each start of an app."""

    base_domain: str
    listen: Listen
    nameservers: tuple[str, ...]
    start_timeout_s: int
    gpu_wait_s: int = 0

    @property
    def https_port(self) -> int:
        """The port on which the ingress serves HTTPS."""
        return self.listen.https_port
