"""What somebody may have meant who named an app, secret or model that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Listing(NamedTuple):
    """How the things of one kind are listed, and which argument names one of them."""

    verb: str
    args: Mapping[str, Any]
    found: str
    name: str


_APPS = Listing("app.list", {"project": "", "domain": ""}, "apps", "name")
_SECRETS = Listing("secret.list", {"project": "", "domain": "", "all": True}, "secrets", "key")
LISTINGS = {
    **{f"app.{verb}": _APPS for verb in ("get", "start", "stop", "sleep", "delete", "logs")},
    **{f"secret.{verb}": _SECRETS for verb in ("get", "delete")},
    "model.remove": Listing("model.list", {}, "models", "name"),
}
"""By the verb that did not find what it was asked for."""


def suggestion(asked: Mapping[str, Any], listing: Listing, there: Sequence[Mapping[str, Any]]) -> str:
    """A hint: the same name elsewhere, else a name like it here; empty if there is none."""
    name = str(asked.get(listing.name))
    scope = _scope(asked)
    here = [str(each.get(listing.name)) for each in there if _scope(each) == scope]
    elsewhere = [_scope(each) for each in there if each.get(listing.name) == name]
    if elsewhere and name not in here:
        project, domain = elsewhere[0]
        options = f"{_option('-p', project)}{_option('-d', domain)}"
        return (
            f"'{name}' is in another scope:{options}" if options else f"'{name}' is the whole machine's: no -p, no -d"
        )
    near = difflib.get_close_matches(name, here, 1)
    return f"did you mean '{near[0]}'?" if near else ""


def _scope(data: Mapping[str, Any]) -> tuple[str, str]:
    return str(data.get("project") or ""), str(data.get("domain") or "")


def _option(name: str, value: str) -> str:
    return f" {name} {value}" if value else ""
