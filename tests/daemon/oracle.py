"""What must never happen on the machine of ``life.py``, and who caused it where it may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flyted.contract.names import AppKey, Replica, host_of
from flyted.daemon.loop import RETRY_S
from flyted.plan.facts import StoredApp
from flyted.plan.gpus.lease import MIN_IDLE_S
from flyted.plan.leaving import DRAIN_S
from tests.daemon.world_pairs import Pair
from tests.values import DOMAIN

if TYPE_CHECKING:
    from tests.daemon.life import Asked, Life

SCALEDOWN_S = 30.0
NEVER = float("-inf")
PAUSE_S = 1.99
"""The shortest pause after a failure."""


class Oracle:
    """It looks at each sleep, each end of a verb, and each lost request."""

    def __init__(self, life: Life) -> None:
        self.life, self.world, self.haproxy = life, life.world, life.haproxy
        self.slept_by_hand: dict[str, float] = {}
        self.world.excused = self._excused
        self.world.sleeps = self._sleeps
        self.world.made = self._made
        self.world.refuses = self._refuses

    def verify(self, asked: Asked) -> None:
        """What a verb has brought about when it returns."""
        found = self.life.running.store.find(AppKey("default", "development", asked.app))
        units = [replica.server for replica in self.world.pairs if replica.app_id == asked.app]
        if not self._alone(asked):
            return
        if asked.verb in ("stop", "delete") and units:
            self.world.fault(f"{asked.verb} of {asked.app} is done, and {units} are there")
        if asked.verb == "delete" and found is not None:
            self.world.fault(f"{asked.app} is deleted, and known")
        if asked.verb in ("serve", "start"):
            self._verify_serving(asked, found)

    def _verify_serving(self, asked: Asked, found: StoredApp | None) -> None:
        if found is None or found.serving is None or found.wanted != "started":
            self.world.fault(f"{asked.verb} of {asked.app} is done, and it does not serve")
            return
        leads_to = self.haproxy.state.hosts.get(host_of(asked.app, DOMAIN), "none")
        servers = {
            each.name for each in self.haproxy.state.servers.values() if each.pool == leads_to and not each.rests
        }
        wrong = (servers or {leads_to}) - {each.server for each in found.most_replicas_of(found.serving)}
        calm = self.haproxy.up and not self.haproxy.hangs and self.haproxy.troubled_at < asked.began
        if calm and asked.verb == "serve" and wrong:
            self.world.fault(f"revision {found.serving} of {asked.app} is served, and requests go to {wrong}")

    def _alone(self, asked: Asked) -> bool:
        """Whether no other verb on that app was called since, or still runs."""
        return not any(
            each is not asked and each.app == asked.app and (each.number > asked.number or not each.end)
            for each in self.life.asked
        )  # fmt: skip

    def _stopped_long_ago(self, app: str) -> bool:
        """Whether an app was stopped since HAProxy last hung, or while that was near, and its drain is over.

        A flyted that starts goes on with a stop, and has not yet told HAProxy of it.
        """
        early, late = self.haproxy.hung_at - 100, self.world.now - DRAIN_S + 0.01
        return any(
            early < began <= late
            for each in self.life.asked if each.app == app and each.verb in ("stop", "delete")
            for began in (each.began, *(start for start in self.life.began if start > each.began))
        )  # fmt: skip

    def _refuses(self, replica: Replica) -> bool:
        """Whether somebody stops an app, or did so just now: who comes gets 503, whoever says it."""
        return any(
            each.app == replica.app_id and each.verb in ("stop", "delete") and each.ended > self.world.now - 20
            for each in self.life.asked
        )  # fmt: skip

    def _by_hand(self, app: str) -> bool:
        return any(each.app == app and each.verb == "sleep" for each in self.life.asked if not each.end)

    def _excused(self, replica: Replica) -> bool:
        """Whether the user, or a trouble of the machine, is why a request to a replica is lost."""
        recent = self.world.now - 40
        if self.life.troubled_at > recent or self.world.gpus.lost_at > recent or not self.world.bus:
            return True
        if replica in self.life.outdated:
            return True
        untold = self.haproxy.hangs or self.haproxy.troubled_at > self.world.now - 2 * RETRY_S
        if untold and self._stopped_long_ago(replica.app_id):
            return True  # a stop does not wait for HAProxy for ever
        return self._by_hand(replica.app_id) or self.slept_by_hand.get(replica.app_id, NEVER) > recent

    def _sleeps(self, pair: Pair) -> None:
        """The daemon stops the service of a pair that goes on listening."""
        replica, now = pair.replica, self.world.now
        if self._by_hand(replica.app_id):
            self.slept_by_hand[replica.app_id] = now
            return
        if replica in self.life.running.loop.candidates:
            return
        if pair.held or pair.queue:
            self.world.fault(f"{replica.server} is put to sleep with {len(pair.held) + len(pair.queue)} requests")
        idle_s = now - max(pair.up_at, pair.last_end)
        least_s = MIN_IDLE_S if self._somebody_waits() else SCALEDOWN_S
        if idle_s < least_s - 0.001 and not self._own_waits(replica):
            self.world.fault(f"{replica.server} is put to sleep after {idle_s:.2f} s")

    def _somebody_waits(self) -> bool:
        return bool(self.world.waiting()) or max(self.world.waited.values(), default=NEVER) > self.world.now - 15

    def _own_waits(self, replica: Replica) -> bool:
        """Whether a newer revision of the same app waits for its GPU, or just has: an idle one gives it at once."""
        waits = any(pair.replica.app_id == replica.app_id for pair, _run in self.world.line)
        return waits or self.world.waited.get(replica.app_id, NEVER) > self.world.now - 15

    def _made(self, replica: Replica) -> None:
        """The daemon makes a pair, perhaps one that systemd has given up."""
        gone = self.world.gone.get(replica, NEVER)
        asked = any(each.app == replica.app_id and not gone > each.ended for each in self.life.asked)
        pause_s = self.world.now - gone
        if pause_s < PAUSE_S and not asked and self._calm(since=gone) and replica not in self.life.outdated:
            self.world.fault(f"{replica.server} failed {pause_s:.2f} s ago, and is made anew already")

    def refused(self, asked: Asked) -> None:
        """A verb ended with an error: systemd's are not for users, unless systemd was away."""
        if asked.end.startswith("HostFailure") and self._calm(since=asked.began - 40) and self._alone(asked):
            self.world.fault(f"{asked.verb} of {asked.app} ended with {asked.end}")

    def _calm(self, since: float) -> bool:
        """Whether systemd, the disk and flyted itself have been there since then."""
        there = self.world.bus and not self.life.full
        return there and self.life.troubled_at < since and self.life.began[-1] < since
