"""The contents of the pages: the list of apps, one app, one image build. Each is a title and pieces of HTML."""

from __future__ import annotations

import time
from html import escape
from urllib.parse import quote

from flyted.contract.answers.apps import AppList, AppStatus, Described
from flyted.contract.answers.events import Event, LogLine
from flyted.contract.answers.machine import Done
from flyted.contract.errors import InvalidInput
from flyted.contract.names import DEFAULT_DOMAIN, DEFAULT_PROJECT, AppKey, label, link_target, printable
from flyted.gateway.pages import html
from flyted.gateway.parts import Parts
from flyted.gateway.services.jobs import Run

LOG_LINES = 50


async def apps(parts: Parts, token: str) -> tuple[str, list[str]]:
    """Return the start page, the list of apps."""
    found = (await parts.daemon.call(AppList, "app.list", {"project": "", "domain": ""}, token=token)).apps
    if not found:
        return "Apps", [html.paragraph("None yet."), html.command("flyte serve FILE ENV"), _logout()]
    rows = [(app.name, f"{html.link(_page(app), app.state)} {html.link(app.url, app.url)}") for app in found]
    return "Apps", [html.table(rows), _logout()]


async def app(parts: Parts, token: str, project: str, domain: str, name: str) -> tuple[str, list[str]]:
    """Return the page of one app: its state, its address, its last lines.

    Raise :class:`~flyted.contract.errors.NotFound` if it does not exist, and :class:`InvalidInput` for a bad name.
    """
    key = AppKey(label(project, "project"), label(domain, "domain"), label(name, "app name"))
    args = {"project": project, "domain": domain, "name": name}
    deploy = parts.jobs.deploy_of(key)
    said: list[str] = []
    if deploy is not None and deploy.running:
        said.append(html.paragraph(f"Deploying: {deploy.text}"))
        if deploy.accepted and deploy.accepted.revision == 1:
            return name, [*said, html.paragraph("Reload this page in a moment.")]
    if deploy is not None and deploy.error is not None:
        said.append(html.paragraph(f"The last deploy failed: {deploy.error.message}"))
    known = (await parts.daemon.call(Described, "app.get", args, token=token)).app
    return name, [*said, html.table(_rows(known)), *await _log(parts, token, args)]


def _rows(known: AppStatus) -> list[tuple[str, str]]:
    failure = known.last_failure
    plain = (known.project, known.domain) == (DEFAULT_PROJECT, DEFAULT_DOMAIN)
    scope = "" if plain else f" -p {known.project} -d {known.domain}"
    follow = f"flytectl logs -f {known.name}{scope}"
    return [
        ("State", escape(known.state)),
        ("Why", escape(known.reason)),
        ("Address", html.link(known.url, known.url)),
        ("Links", " ".join(html.link(_target(known.url, path), title) for title, path in known.links)),
        ("Revision", str(known.revision or "none is serving")),
        ("Deployed by", escape(known.deployed_by)),
        ("Last failure", escape(f"revision {failure.revision}: {failure.reason}") if failure else ""),
        ("Not done", escape("; ".join(known.unmet))),
        ("Note", escape("; ".join(known.notes))),
        ("Secrets", escape(", ".join(secret.key for secret in known.secrets))),
        ("Log", f"<code>{escape(follow)}</code>"),
    ]


async def _log(parts: Parts, token: str, args: dict[str, str]) -> list[str]:
    texts: list[str] = []

    def heard(event: Event) -> None:
        if isinstance(event, LogLine):
            when = time.strftime("%H:%M:%S", time.localtime(event.time / 1_000_000))
            whose = "" if event.source == "app" else f"{event.source}: "
            texts.append(f"{when} {whose}{event.text}")

    await parts.daemon.call(
        Done, "app.logs", {**args, "lines": LOG_LINES, "follow": False}, token=token, on_event=heard
    )
    return ["<h2>Last lines</h2>", html.lines(texts)] if texts else []


def run(parts: Parts, name: str) -> tuple[str, list[str]]:
    """Return the page of one image build. Raise :class:`~flyted.contract.errors.NotFound` for an unknown one."""
    found: Run = parts.jobs.run(name)
    rows = [
        ("Image", escape(found.target)),
        ("State", escape(found.phase)),
        ("Why", escape(found.error)),
        ("Begun", escape(time.strftime("%F %T", time.localtime(found.begun)))),
        ("Took", f"{found.ended - found.begun:.0f} s" if found.ended else ""),
    ]
    return f"Image build {printable(name)[1:-1]}", [html.table(rows), html.lines([text for _, text in found.output])]


def _target(url: str, path: str) -> str:
    """Return the address of an app's link, or "" for a link that would change the host of ``url``."""
    try:
        return url + link_target(path) if path.startswith("/") else link_target(path)
    except InvalidInput:
        return ""


def _page(known: AppStatus) -> str:
    parts = (quote(name, safe="") for name in (known.domain, known.project, known.name))
    return "/v2/domain/{}/project/{}/apps/{}".format(*parts)


def _logout() -> str:
    return html.button("/logout", "Log out")
