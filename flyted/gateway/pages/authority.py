"""The page at ``flyted.DOMAIN`` of a domain that this machine signs for: what other machines have to trust, and how.

Everybody may read the page, also unencrypted: a client cannot check a certificate before it has this one. So the page
asks to compare the fingerprint.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from flyted.contract.authority import CERTIFICATE, FOLDER, PAGE, PROFILE, der, fingerprint, profile
from flyted.contract.errors import NotFound
from flyted.gateway.pages import html
from flyted.gateway.reply import Reply, whole

_HOW = (
    ("iPhone, iPad", PROFILE,
     "open it in Safari, install the profile in Settings, and there: General > About > Certificate Trust Settings"),
    ("Mac", PROFILE, "open it, and install the profile in System Settings"),
    ("Android", CERTIFICATE, "Settings > Security > Encryption and credentials > Install a certificate > CA"),
    ("Windows", CERTIFICATE, "open it > Install > Place in the store Trusted Root Certification Authorities"),
    ("Firefox", CERTIFICATE, "Settings > Privacy & Security > View Certificates > Authorities > Import"),
)  # fmt: skip
_FETCH = "f=$(mktemp); curl -o $f http://{host}{path}; openssl x509 -inform der -in $f -noout -fingerprint -sha256"
_TRUST = (
    "sudo openssl x509 -inform der -in $f -out /usr/local/share/ca-certificates/{domain}.crt && "
    "sudo update-ca-certificates"
)


async def answer(domain: str, host: str, path: str, reply: Reply, folder: Path = Path(FOLDER)) -> None:
    """Send the page, the certificate or the profile. ``host``: where the client finds the certificate over HTTP.

    Raise :class:`NotFound` if flyted signs for the domain no more.
    """
    try:
        certificate = der((folder / f"{domain}.pem").read_text("ascii"))
    except (OSError, ValueError) as error:
        raise NotFound(f"this machine does not sign for {domain}") from error
    if path == CERTIFICATE:
        await _file(reply, certificate, "application/x-x509-ca-cert", f"{domain}.crt")
    elif path == PROFILE:
        await _file(reply, profile(domain, certificate), "application/x-apple-aspen-config", f"{domain}.mobileconfig")
    elif path == PAGE:
        await html.page(reply, f"Trust {domain}", _page(domain, host, fingerprint(certificate)))
    else:
        raise NotFound("there is no such page")


def _page(domain: str, host: str, digest: str) -> list[str]:
    return [
        html.paragraph(
            f"The apps at *.{domain} run on a machine that signs for itself. Its authority can sign for {domain} and "
            "names below it, and for nothing else."
        ),
        html.paragraph(
            "Compare this with what the machine's operator sees before you trust it: somebody on the network between "
            "could have sent you another one."
        ),
        html.lines([f"SHA-256 {digest}"]),
        html.command(f"flytectl ca show {domain}"),
        html.table((system, f"{html.link(path, path[1:])}: {escape(how)}") for system, path, how in _HOW),
        html.paragraph("Debian and Ubuntu: fetch it and see its fingerprint; if that is right, trust it."),
        html.command(_FETCH.format(host=host, path=CERTIFICATE)),
        html.command(_TRUST.format(domain=domain)),
    ]


async def _file(reply: Reply, data: bytes, kind: str, name: str) -> None:
    headers = {
        "Content-Type": kind, "Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }  # fmt: skip
    await whole(reply, 200, data, headers)
