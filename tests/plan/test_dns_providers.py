"""What the file for a DNS provider may have, and what is said about one that cannot be."""

from __future__ import annotations

import pytest

from flyted.contract.errors import InvalidInput
from flyted.plan.ingress.dns_providers import variables

SECRET = "s3cret-token-value"


@pytest.mark.parametrize(
    ("text", "provider", "found"),
    [
        (f"{SECRET}\n", "hetzner", {"HETZNER_API_KEY": SECRET}),
        (f"\n# mine\n{SECRET}", "cloudflare", {"CF_DNS_API_TOKEN": SECRET}),
        ("abc=def==", "duckdns", {"DUCKDNS_TOKEN": "abc=def=="}),
        (f"A_KEY={SECRET}", "porkbun", {"A_KEY": SECRET}),
        (f"export A_KEY='{SECRET}'\nB_KEY = x\n", "porkbun", {"A_KEY": SECRET, "B_KEY": "x"}),
        ("LEGO_DNS_RESOLVERS=192.0.2.1:53\nA=b", "rfc2136", {"LEGO_DNS_RESOLVERS": "192.0.2.1:53", "A": "b"}),
    ],
)
def test_what_is_read(text: str, provider: str, found: dict[str, str]) -> None:
    assert variables(text.encode(), provider) == found


@pytest.mark.parametrize(
    ("text", "provider", "said"),
    [
        (b"", "hetzner", "is empty"),
        (b"# nothing\n", "hetzner", "is empty"),
        (b"\xff\xfe", "hetzner", "is not text"),
        (b"x" * 20_000, "hetzner", "too long"),
        (SECRET.encode() + b"\x00", "hetzner", "not text"),
        (SECRET.encode(), "route53", "has one value, and no name before it"),
        (f"{SECRET}\n{SECRET}".encode(), "hetzner", "line 1 of the file for the DNS provider is not NAME=VALUE"),
        (b"A=b\nC=", "porkbun", "line 2 of the file for the DNS provider is not NAME=VALUE"),
        (b"A=b\nPATH=/tmp", "porkbun", "sets PATH"),
        (b"A=b\nLD_PRELOAD=/tmp/x.so", "porkbun", "sets LD_PRELOAD"),
        (b"A=b\nHTTPS_PROXY=x", "porkbun", "sets HTTPS_PROXY"),
        (b"A=b\nLEGO_CA_CERTIFICATES=x", "porkbun", "sets LEGO_CA_CERTIFICATES"),
    ],
)
def test_what_cannot_be_is_refused_without_its_values(text: bytes, provider: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        variables(text, provider)
    assert said in caught.value.message
    assert SECRET not in f"{caught.value.message} {caught.value.hint}"
