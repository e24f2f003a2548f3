"""An ACME authority for the machine in memory: what lego's unit prints, with real certificates."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flyted.acme import words
from flyted.plan.facts import UnitEnd
from tests.daemon.fake import Machine

DAY = 86400.0


class Authority:
    """What the units do. ``refuses``: what lego says of a name that gets no certificate.

    ``age_s``: how old a certificate is when it comes.
    """

    def __init__(self, machine: Machine, life_s: float = 90 * DAY) -> None:
        """Answer all units of the machine."""
        self.machine, self.life_s = machine, life_s
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.orders: list[tuple[float, str]] = []
        self.jobs: list[dict[str, Any]] = []
        self.challenges: list[dict[str, str]] = []
        self.refuses: dict[str, str] = {}
        self.asked_to_revoke: list[dict[str, Any]] = []
        self.revoked: list[str] = []
        self.shown: set[str] = set()  # the certificates that the ingress has
        self.revoked_while_shown: list[str] = []
        self.keeps = ""  # why it revokes nothing
        self.other_name = ""
        self.age_s = 0.0
        machine.systemd.run_transient = self.unit  # type: ignore[method-assign]
        self.takes = machine.haproxy.apply_certificates
        machine.haproxy.apply_certificates = self.apply  # type: ignore[method-assign]

    async def apply(self) -> None:
        """Note what the ingress takes."""
        await self.takes()
        pems = (each.pem.decode() for each in self.machine.tls.certificates())
        self.shown = {pem.partition("-----BEGIN PRIVATE KEY-----")[0] for pem in pems}

    async def unit(self, name: str, properties: dict[str, Any], **_more: Any) -> UnitEnd:
        """One order: the credential is there, and nothing else of the machine is told."""
        job = json.loads(self.machine.acme.jobs[name])
        if job[words.REVOKE]:
            return self.revoke(job, properties["StandardOutputFileDescriptor"])
        self.jobs.append(job)
        self.orders.append((self.machine.clock.time(), job[words.NAME]))
        state = self.machine.haproxy.state
        self.challenges.append(dict(state.challenges) if state is not None else {})
        output = properties["StandardOutputFileDescriptor"]
        if job[words.NAME] in self.refuses:
            os.write(output, f"2026/12/01 error: {self.refuses[job[words.NAME]]}\n".encode())
            return UnitEnd("exit-code", words.EX_REFUSED)
        text = base64.b64encode(self.sign(job)).decode()
        for at in range(0, len(text), 1000):
            os.write(output, f"{words.OURS}{words.CERTIFICATE}{text[at : at + 1000]}\n".encode())
        return UnitEnd("success", 0)

    def revoke(self, job: dict[str, Any], output: int) -> UnitEnd:
        """One revocation."""
        assert job[words.REQUEST] == job[words.DNS] == ""
        self.asked_to_revoke.append(job)
        if self.keeps:
            os.write(output, f"acme: error: 400 :: POST :: https://x.invalid :: {self.keeps}\n".encode())
            return UnitEnd("exit-code", words.EX_REFUSED)
        self.revoked.append(job[words.REVOKE])
        self.revoked_while_shown += self.shown & {job[words.REVOKE]}
        return UnitEnd("success", 0)

    def sign(self, job: dict[str, Any]) -> bytes:
        """A certificate for the request of a job."""
        request = x509.load_pem_x509_csr(job[words.REQUEST].encode())
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [job[words.NAME]]
        shown = x509.SubjectAlternativeName([x509.DNSName(self.other_name or job[words.NAME])])
        now = dt.datetime.fromtimestamp(self.machine.clock.time() - self.age_s, dt.UTC)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An Authority")])
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([])).issuer_name(issuer).public_key(request.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now)
            .not_valid_after(now + dt.timedelta(seconds=self.life_s))
            .add_extension(shown, critical=True).sign(self.key, hashes.SHA256())
        )  # fmt: skip
        return made.public_bytes(serialization.Encoding.PEM)
