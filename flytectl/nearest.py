"""Suggests what the user may have meant by the name of an app, secret or model that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flyted.contract.answers.apps import AppList
from flyted.contract.answers.codec import Answer
from flyted.contract.answers.data import DataList
from flyted.contract.answers.models import ModelList
from flyted.contract.answers.secrets import SecretList


class Named(NamedTuple):
    """The name of an app, secret or model, and its scope; a model has none."""

    name: str
    project: str = ""
    domain: str = ""


class Listing(NamedTuple):
    """How to list the apps, secrets or models.

    ``verb``, ``args``, ``kind``: the call, and its answer. ``named``: a function that returns the names in the
    answer. ``name``: the argument with the name, of the verb that did not find it.
    """

    verb: str
    args: Mapping[str, Any]
    kind: type[Answer]
    named: Callable[[Any], Sequence[Named]]
    name: str


def _apps(found: AppList) -> list[Named]:
    return [Named(app.name, app.project, app.domain) for app in found.apps]


def _data(found: DataList) -> list[Named]:
    return [Named(data.name, data.project, data.domain) for data in found.folders]


def _secrets(found: SecretList) -> list[Named]:
    return [Named(secret.key, secret.project, secret.domain) for secret in found.secrets]


def _models(found: ModelList) -> list[Named]:
    return [Named(model.name) for model in found.models]


_APPS = Listing("app.list", {"project": "", "domain": ""}, AppList, _apps, "name")
_SECRETS = Listing("secret.list", {"project": "", "domain": "", "all": True}, SecretList, _secrets, "key")
_DATA = Listing("data.list", {}, DataList, _data, "name")
LISTINGS = {
    **{f"app.{verb}": _APPS for verb in ("get", "start", "stop", "sleep", "delete", "logs")},
    **{f"data.{verb}": _DATA for verb in ("export", "remove")},
    **{f"secret.{verb}": _SECRETS for verb in ("get", "delete")},
    "model.remove": Listing("model.list", {}, ModelList, _models, "name"),
}
"""The verb that did not find a name → the listing with the names to suggest."""


def suggestion(asked: Mapping[str, Any], listing: Listing, there: Sequence[Named]) -> str:
    """Return a hint: the same name in another scope, else a similar name in this one; "" if there is none."""
    name = str(asked.get(listing.name))
    scope = str(asked.get("project") or ""), str(asked.get("domain") or "")
    here = [each.name for each in there if each[1:] == scope]
    elsewhere = [each[1:] for each in there if each.name == name]
    if elsewhere and name not in here:
        project, domain = elsewhere[0]
        options = f"{_option('-p', project)}{_option('-d', domain)}"
        return f"'{name}' is in another scope:{options}" if options else f"'{name}' is machine-wide: omit -p and -d"
    near = difflib.get_close_matches(name, here, 1)
    return f"did you mean '{near[0]}'?" if near else ""


def _option(name: str, value: str) -> str:
    return f" {name} {value}" if value else ""
