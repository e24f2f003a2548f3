"""Runs the daemon's checks for `flytectl doctor`, each with a hint at what to type."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from flyted.contract.answers.machine import Check, Findings
from flyted.contract.status import AppState
from flyted.daemon.api.verbs import Call, Right, Verb
from flyted.daemon.apps.status import app_status
from flyted.daemon.config import Config
from flyted.daemon.gpus.verbs import GpuVerbs
from flyted.daemon.images.mirrors import Mirrors
from flyted.daemon.ingress.domains import Domains
from flyted.daemon.look import Look
from flyted.daemon.loop import Loop
from flyted.host import machine
from flyted.host.disk import disk_space
from flyted.host.network import nameservers
from flyted.host.vault import Vault
from flyted.plan.images.fitness import NEEDED, SWITCHES, MachineFacts, lacks, restricted
from flyted.plan.ingress.ports import CALLS_SOCKET, INGRESS_UNIT
from flyted.plan.ingress.state import Listen
from flyted.plan.sandbox import unreachable_nameservers

STATE = Path("/var/lib/flyted")
_LOW_BYTES = 1 << 30
_NETWORK_PROGRAMS = ("/usr/bin/slirp4netns", "/usr/sbin/nft")


def names(servers: tuple[str, ...]) -> Check:
    """Check whether apps can ask the machine's name servers: most of its own addresses are closed to apps."""
    closed = unreachable_nameservers(servers)
    detail = f"apps cannot reach the name server {', '.join(closed)}" if closed else "apps can resolve names"
    return Check(
        "name servers", not closed or (None if set(servers) - set(closed) else False), detail,
        "apt install systemd-resolved (apps reach 127.0.0.53), or set one of the network in /etc/resolv.conf; "
        "then: systemctl restart flyted",
    )  # fmt: skip


def listens(listen: Listen) -> Check:
    """Check where the ingress listens, and to whom that is open."""
    ports = f"https port {listen.https_port}, http port {listen.http_port} on {', '.join(listen.addresses)}"
    addresses = [ip_address(address) for address in listen.addresses]
    outside = not all(address.is_loopback for address in addresses)
    detail = f"{ports}: " + ("open to your network" if outside else "open to this machine only")
    if not any(address.is_loopback or address.is_unspecified for address in addresses):
        return Check(
            "ingress", None, f"{detail}, but not on this machine's loopback, which flyte and the web pages use",
            'add "127.0.0.1" and "::1" to listen (sudoedit /etc/flyted/flyted.toml); then: systemctl restart flyted',
        )  # fmt: skip
    usual = (listen.https_port, listen.http_port) == (443, 80)
    return Check("ingress", usual or None, detail, "another program holds 443 or 80: ss -ltnp")


def calls(socket: str, *, here: bool, used: bool) -> Check:
    """Check whether apps can call apps. ``socket``: the state of its unit. ``here``: whether the ingress has it.

    ``used``: whether an app calls others.
    """
    if socket == "active" and here:
        return Check("calls", ok=True, detail="apps can call the apps that they name", hint="")
    why = f"{CALLS_SOCKET} is {socket or 'not there'}" if socket != "active" else "the ingress began without it"
    return Check(
        "calls", False if used else None, f"apps cannot call each other: {why}",
        f"systemctl restart {INGRESS_UNIT}, which starts the socket too",
    )  # fmt: skip


class Doctor:
    """The handler of ``doctor``: it looks, and changes nothing."""

    def __init__(
        self, vault: Vault, look: Look, loop: Loop, config: Config, gpus: GpuVerbs, mirrors: Mirrors, domains: Domains
    ) -> None:  # fmt: skip
        self._vault = vault
        self._look = look
        self._loop = loop
        self._config = config
        self._gpus = gpus
        self._mirrors = mirrors
        self._domains = domains

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        return {"doctor": Verb(Right.READ, {}, self.examine)}

    async def examine(self, _call: Call) -> Findings:
        """Return the findings of all checks."""
        here = [self._ingress(), self._disk(), self._uv(), *_images(), names(nameservers())]
        checks = [*self._secrets(), *here, *_egress(), *self._served(), *await self._calls(), *await self._apps()]
        return Findings((*checks, *await self._mirrors.findings(), *await self._gpus.findings()))

    def _secrets(self) -> Iterator[Check]:
        if self._vault.refusal is not None:
            yield Check("secret store", ok=False, detail=self._vault.refusal.message, hint=self._vault.refusal.hint)
            return
        secrets = self._vault.list()
        damaged = [info.key for info in secrets if info.damaged]
        detail = f"damaged: {', '.join(damaged)}" if damaged else f"{len(secrets)} stored, all intact"
        yield Check("secret store", not damaged, detail, "store them again: flytectl secret create KEY --replace")
        sealed = "with this machine's TPM" if Path("/dev/tpmrm0").exists() else "with a key on this disk (no TPM)"
        warn = None if not Path("/dev/tpmrm0").exists() else True
        yield Check(
            "identity", warn, f"sealed {sealed}", "secrets are only as safe as this disk: use full-disk encryption"
        )
        found = self._vault.has_recovery
        lost = "no recovery key: if this machine is lost, so are its secrets"
        who = "a recovery key can open the secrets" if found else lost
        yield Check(
            "recovery", found or None, who,
            "run age-keygen on another machine, add its age1... to /etc/flyted/recipients.txt, then: "
            "systemctl restart flyted",
        )  # fmt: skip
        if self._vault.stale:
            detail = f"{self._vault.stale} secrets are not encrypted to the current recovery keys"
            yield Check("recipients", None, detail, "systemctl restart flyted; store damaged secrets again")

    def _ingress(self) -> Check:
        unit = self._look.ingress_unit()
        if unit is None or unit.active != "active":
            state = unit.active if unit is not None else "not installed"
            return Check(
                "ingress", ok=False, detail=f"flyted-ingress is {state}", hint="journalctl -u flyted-ingress -n 20"
            )
        return listens(self._config.listen)

    def _served(self) -> Iterator[Check]:
        """Check the certificates of base domains."""
        for each in self._domains.statuses.all():
            yield Check(f"domain {each.domain}", each.state == "ok" or None, each.state, each.hint)
        for left in self._domains.statuses.left_over():
            detail = left.problem or "its certificate is to be revoked"
            yield Check(f"certificate {left.name}", None, detail, left.hint)

    def _disk(self) -> Check:
        free, _ = disk_space(STATE)
        return Check("disk", free > _LOW_BYTES, f"{free >> 20} MiB free below {STATE}", f"make room: df -h {STATE}")

    def _uv(self) -> Check:
        found = Path("/usr/lib/flyted/bin/uv").exists()
        return Check("builder", found, "uv found" if found else "uv is missing", "sudo apt install --reinstall flyted")

    async def _calls(self) -> list[Check]:
        """Check whether apps can call apps (units/flyted-calls.socket), if the ingress runs."""
        if self._ingress().ok is False:
            return []
        used = any(app.current is not None and app.current.spec.calls for app in self._look.store.apps())
        socket, here = await self._look.calls()
        return [calls(socket, here=here, used=used)]

    async def _apps(self) -> list[Check]:
        facts = await self._loop.facts()
        found = [app_status(app, facts, self._config.url_domain, self._config.https_port) for app in facts.apps]
        failed = [app for app in found if app.state is AppState.FAILED]
        if not failed:
            return [Check("apps", ok=True, detail=f"{len(found)} known, none failed")]
        return [
            Check(f"app {app.name}", ok=False, detail=app.reason, hint=f"flytectl logs {app.name}") for app in failed
        ]


def _images() -> Iterator[Check]:
    """Check whether images with apt packages or commands can be built and run."""
    facts = MachineFacts(
        kernel=machine.kernel(), overlay=machine.has_overlay(), switches=machine.switches(SWITCHES),
        subordinate=machine.subordinate_ids(), files=frozenset(file for file in NEEDED if Path(file).exists()),
        free_bytes=disk_space(STATE)[0], profiles=machine.apparmor_profiles(),
    )  # fmt: skip
    found = [Check("images", False if each.fatal else None, each.detail, each.hint) for each in lacks(facts)]
    yield from found or [Check("images", ok=True, detail="images with apt packages, commands and files can be built")]


def _egress() -> Iterator[Check]:
    """Check whether apps can have networks (units/flyted-net.service)."""
    for lack in restricted(machine.switches(SWITCHES), machine.apparmor_profiles()):
        yield Check("network", None, f"{lack.detail}: apps start only with --no-egress", lack.hint)
        return
    for program in _NETWORK_PROGRAMS:
        if not Path(program).exists():
            yield Check("network", ok=False, detail=f"{program} is missing", hint="reinstall the package flyted")
