"""How the daemon reaches the HAProxy in memory: in place of ``host.ingress``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from flyted.contract.errors import HostFailure, IngressDown
from flyted.host.ingress import Applied
from flyted.plan.idle import Traffic
from flyted.plan.ingress import kept
from flyted.plan.ingress.config import structure
from flyted.plan.ingress.state import IngressState, Listen
from tests.daemon.world import World
from tests.daemon.world_host import Door
from tests.daemon.world_ingress import WorldIngress


class Ingress(Door):
    """As ``host.ingress.Ingress``."""

    def __init__(self, world: World, haproxy: WorldIngress, tokens: Callable[[], dict[str, str]]) -> None:
        super().__init__(world)
        self.haproxy = haproxy
        self._tokens = tokens
        self._done: IngressState | None = None
        self._rules = ""
        self._process = 0

    def write(self, state: IngressState, _listen: Listen) -> None:
        """As host.ingress."""
        self._check("HAProxy")
        state.check()
        self.write_tokens()
        self.haproxy.files, self.haproxy.files_rules = state, structure(Listen())

    def forget(self) -> None:
        """As host.ingress."""
        self._done, self._rules = None, ""

    async def rules(self) -> str:
        """As host.ingress."""
        if not self._rules:
            await self._asked()
            self._rules = self.haproxy.rules
        return self._rules

    async def apply(self, state: IngressState, listen: Listen, touched: Collection[str] = ()) -> Applied:
        """As host.ingress."""
        state = kept.without(state, touched)
        if state == self._done:
            return Applied()
        self.write(state, listen)
        self.world.at("apply")
        await self._asked()
        self._rules = self.haproxy.rules
        if self._rules != structure(listen):
            return Applied(other_rules=True)
        state = kept.without(state, touched)
        self.haproxy.take(state)
        await self.apply_tokens()
        if not self.haproxy.draining():
            self._done = state
        return Applied(self.haproxy.draining())

    async def end_kept(self, server: str) -> None:
        """As host.ingress."""
        try:
            await self._asked()
        except IngressDown:
            self.haproxy.end_kept(server)  # for this test: nobody can say so
            raise
        self.haproxy.end_kept(server)
        if self._done is not None:
            self._done = kept.without(self._done, [server])

    async def answers_calls(self) -> bool:
        """As host.ingress."""
        await self._asked()
        return True

    async def stats(self, servers: Collection[str]) -> dict[str, Traffic]:
        """As host.ingress."""
        self.world.at("stats")
        await self._asked()
        if self.haproxy.process != self._process:
            self._process = self.haproxy.process
            self.forget()
        return {name: traffic for name, traffic in self.haproxy.stats().items() if name in servers}

    async def apply_tokens(self) -> None:
        """As host.ingress."""
        self.write_tokens()
        await self._asked()
        self.haproxy.tokens = self.haproxy.files_tokens

    def write_tokens(self) -> dict[str, str]:
        """As host.ingress."""
        self.haproxy.files_tokens = self._tokens()
        return self.haproxy.files_tokens

    async def token_uses(self) -> dict[str, float]:
        """As host.ingress."""
        await self._asked()
        return {digest: self.world.now - at for digest, at in self.haproxy.uses.items()}

    async def set_certificate(self, pem: bytes) -> None:
        """As host.ingress."""
        await self._asked()
        if self.haproxy.refuses:
            raise HostFailure("HAProxy refused the new certificate")
        self.haproxy.certificates.append(pem)

    async def apply_certificates(self) -> None:
        """As host.ingress."""
        await self._asked()

    async def _asked(self) -> None:
        self._check("HAProxy")
        await asyncio.sleep(self.world.haproxy_s if self.haproxy.up and not self.haproxy.hangs else 0)
        if self.haproxy.up and self.haproxy.hangs:
            await asyncio.sleep(5)
        self._check("HAProxy")
        if not self.haproxy.up or self.haproxy.hangs:
            raise IngressDown("the ingress (HAProxy) does not answer")
