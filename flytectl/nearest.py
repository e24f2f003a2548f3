"""Suggests what the user may have meant by the name of an app, secret or model that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Listing(NamedTuple):
    """The way to list the apps, secrets or models.

    ``verb``, ``args``: the call. ``found``: the key of the list in its answer. ``name``: the key of the name, in an
    entry of the list and in the arguments of the verb that did not find it.
    """

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
"""The verb that did not find a name → the listing with the names to suggest."""


def suggestion(asked: Mapping[str, Any], listing: Listing, there: Sequence[Mapping[str, Any]]) -> str:
    """Return a hint: the same name in another scope, else a similar name in this one; "" if there is none."""
    name = str(asked.get(listing.name))
    scope = _scope(asked)
    here = [str(each.get(listing.name)) for each in there if _scope(each) == scope]
    elsewhere = [_scope(each) for each in there if each.get(listing.name) == name]
    if elsewhere and name not in here:
        project, domain = elsewhere[0]
        options = f"{_option('-p', project)}{_option('-d', domain)}"
        return f"'{name}' is in another scope:{options}" if options else f"'{name}' is machine-wide: omit -p and -d"
    near = difflib.get_close_matches(name, here, 1)
    return f"did you mean '{near[0]}'?" if near else ""


def _scope(data: Mapping[str, Any]) -> tuple[str, str]:
    return str(data.get("project") or ""), str(data.get("domain") or "")


def _option(name: str, value: str) -> str:
    return f" {name} {value}" if value else ""
