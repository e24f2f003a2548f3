"""Describes a base domain's authority to the clients that have to trust it: where it is handed out, and as what."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

FOLDER = "/run/flyted/authorities"
"""Where flyted puts the certificates, for the gateway: a file of the domain's name each, as PEM."""
PAGE, CERTIFICATE, PROFILE = "/", "/ca.crt", "/ca.mobileconfig"
"""The paths at ``flyted.DOMAIN``: for people, for most systems (as DER), and for Apple's."""
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
PATHS = (PAGE, CERTIFICATE, PROFILE)


def der(pem: str) -> bytes:
    """Return the one certificate in ``pem`` as DER. Raise ValueError if it is not one.

    The module ``ssl`` can do that, and would cost the daemon 2 MiB of memory.
    """
    found = _PEM.fullmatch(pem.strip())
    if found is None:
        raise ValueError("this is not one certificate in PEM form")
    return base64.b64decode("".join(found[1].split()), validate=True)


def fingerprint(certificate: bytes) -> str:
    """Return the SHA-256 of a certificate as ``AB:CD:…``."""
    digest = hashlib.sha256(certificate).hexdigest().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def profile(domain: str, certificate: bytes) -> bytes:
    """Return the configuration profile by which an iPhone, iPad or Mac trusts a certificate.

    Source: Apple's "Configuration Profile Reference", Certificate payload (com.apple.security.root).
    """
    import plistlib  # noqa: PLC0415  parses XML: only where a profile is asked for
    import uuid  # noqa: PLC0415

    def payload(kind: str, **more: Any) -> dict[str, Any]:
        name = f"flyted.{domain}.{kind}"
        number = uuid.uuid5(uuid.NAMESPACE_DNS, f"{name} {fingerprint(certificate)}")
        return {
            "PayloadType": kind, "PayloadVersion": 1, "PayloadIdentifier": name,
            "PayloadUUID": str(number).upper(), "PayloadDisplayName": f"flyted: {domain}", **more,
        }  # fmt: skip

    root = payload("com.apple.security.root", PayloadCertificateFileName=f"{domain}.crt", PayloadContent=certificate)
    said = f"Trusts the certificates of {domain} and of names below it, and no others."
    return plistlib.dumps(payload("Configuration", PayloadContent=[root], PayloadDescription=said))
