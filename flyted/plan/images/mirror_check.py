"""Makes the unit that asks the mirrors of registries what they are, and reads what it says of each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from flyted.plan.images.common_unit import own_lines, plain
from flyted.plan.images.pull_unit import PullSettings, client_unit, server_of
from flyted.registry import words

UNIT = "flyted-pull-mirrors.service"
_SLACK_S = 10
_SETTINGS = "below [images] in /etc/flyted/flyted.toml; then: systemctl restart flyted"


@dataclass(frozen=True)
class Mirror:
    """What is known of a mirror. ``ok``: ``None`` where it may still do; ``hint``: what to type."""

    registry: str
    ok: bool | None
    detail: str
    hint: str = ""


def mirrors_unit(settings: PullSettings) -> dict[str, Any]:
    """Return the properties of the transient service that asks all mirrors. It has nothing that it could keep."""
    unit = client_unit("Check of the mirrors of registries", [words.CHECK], settings)
    unit["InaccessiblePaths"] = ["-/var/lib/flyted"]
    return {**unit, "RuntimeMaxUSec": (words.CHECK_S + _SLACK_S) * 1_000_000}


def findings(lines: Iterable[str], settings: PullSettings, login: str) -> Iterator[Mirror]:
    """Yield what the unit has said of each mirror, by the name of its registry.

    ``lines``: its output. ``login``: the secret with the logins of registries; "": none.
    """
    read = (words.MIRROR_IS.fullmatch(line) for line in own_lines(lines, words.OURS))
    found = {each["registry"]: (each["how"], plain(each["text"])) for each in read if each is not None}
    for name, address in sorted(settings.mirrors.items()):
        how, text = found.get(name, (words.UNREACHABLE, f"{address} could not be checked"))
        yield _finding(name, address, how, text, login)


def _finding(name: str, address: str, how: str, text: str, login: str) -> Mirror:
    detail = text if address.endswith(f"//{name}") else f"{text}, in place of {name}"
    if how == words.ANSWERS:
        return Mirror(name, ok=True, detail=detail)
    if how == words.LOGIN and login:  # which project's, so which login, is only known when something is pulled
        return Mirror(name, ok=True, detail=f"{detail}: pulls have those of the secret {login}")
    if how == words.LOGIN:
        return Mirror(
            name, None, detail,
            f"docker login {server_of(address)}; flytectl secret create LOGIN --from-file ~/.docker/config.json; then "
            f'registry_secret = "LOGIN" {_SETTINGS}',
        )  # fmt: skip
    if how == words.OTHER:
        return Mirror(
            name,
            None,
            detail,
            f"use the address of a registry, such as https://mirror.example.com, in mirrors {_SETTINGS}",
        )
    if how == words.UNTRUSTED:
        return Mirror(
            name, ok=False, detail=detail,
            hint=f"sudo cp ITS-CA.pem /usr/local/share/ca-certificates/{server_of(address).partition(':')[0]}.crt; "
            "sudo update-ca-certificates",
        )  # fmt: skip
    return Mirror(name, ok=False, detail=detail, hint=f"correct mirrors, or the proxies in environment, {_SETTINGS}")
