"""Reads the credentials with which lego changes records at a DNS provider. Pure.

A file has either lines NAME=VALUE, with the variables that lego knows, or one token alone, for the providers that
want nothing else. Source: ``lego dnshelp -c PROVIDER`` of lego 4.9.
"""

from __future__ import annotations

import re

from flyted.acme.words import OWN_VARIABLES
from flyted.contract.errors import InvalidInput

TOKENS = {
    "cloudflare": "CF_DNS_API_TOKEN",
    "desec": "DESEC_TOKEN",
    "digitalocean": "DO_AUTH_TOKEN",
    "dnsimple": "DNSIMPLE_OAUTH_TOKEN",
    "duckdns": "DUCKDNS_TOKEN",
    "gandiv5": "GANDIV5_API_KEY",
    "hetzner": "HETZNER_API_KEY",
    "ionos": "IONOS_API_KEY",
    "linode": "LINODE_TOKEN",
    "netlify": "NETLIFY_TOKEN",
    "njalla": "NJALLA_TOKEN",
    "vultr": "VULTR_API_KEY",
}
"""The variable of each provider that wants a token alone."""
MOST_BYTES = 16384
_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_CLOSED = re.compile(r"PATH|HOME|LD_.*|GODEBUG|.*_PROXY|LEGO_.*")


def variables(text: bytes, provider: str) -> dict[str, str]:
    """Return the variables in a file of the operator's. Raises :class:`InvalidInput`, which shows no value."""
    try:
        lines = [line.strip() for line in text.decode().splitlines()]
    except UnicodeDecodeError as error:
        raise InvalidInput("the file for the DNS provider is not text") from error
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(text) > MOST_BYTES or not lines or not all(line.isprintable() for line in lines):
        raise InvalidInput(
            "the file for the DNS provider is empty, too long or not text",
            hint=f"lego dnshelp -c {provider} lists its variables: a line NAME=VALUE each",
        )
    if len(lines) == 1 and _NAME.fullmatch(lines[0].partition("=")[0]) is None:
        return {_variable_of(provider): lines[0]}
    return dict(_pair(line.removeprefix("export "), number) for number, line in enumerate(lines, 1))


def _variable_of(provider: str) -> str:
    if provider not in TOKENS:
        raise InvalidInput(
            f"the file for {provider} has one value, and no name before it",
            hint=f"lego dnshelp -c {provider} lists its variables: a line NAME=VALUE each",
        )
    return TOKENS[provider]


def _pair(line: str, number: int) -> tuple[str, str]:
    name, equals, value = line.partition("=")
    name, value = name.strip(), value.strip().strip("\"'")
    if not equals or _NAME.fullmatch(name) is None or not value:
        raise InvalidInput(f"line {number} of the file for the DNS provider is not NAME=VALUE")
    if name not in OWN_VARIABLES and _CLOSED.fullmatch(name) is not None:
        raise InvalidInput(f"line {number} of the file for the DNS provider sets {name}, which is no variable of one")
    return name, value
