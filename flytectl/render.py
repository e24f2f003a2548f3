"""Renders answers as text for people or JSON for programs. The only file with colours, columns and escaping.

All text from an app or the daemon passes through :func:`safe` before it is written to a terminal: an escape sequence
in an app's output or description is shown, not executed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from flytectl.scaling import replica, running, scaling
from flytectl.times import for_json, for_people, local, span
from flyted.contract.answers.codec import Answer
from flyted.contract.answers.events import BUILD, NOTE, Event, LogLine
from flyted.contract.quantity import human_bytes

if TYPE_CHECKING:
    from flyted.contract.answers.apps import AppFolder, AppStatus, GpuUse, ImageStatus, UsedSecret
    from flyted.contract.answers.machine import Check
    from flyted.contract.answers.secrets import SecretStatus

_ALLOWED = frozenset("\u00a0\u200d\u202f\u3000")  # spaces and the joiner inside emoji, which str.isprintable() rejects
_STATE_COLOUR = {"running": "32", "frozen": "36", "sleeping": "36", "failed": "31", "stopped": "2", "unknown": "33"}
_MARK = {True: ("ok", "32"), False: ("FAIL", "31"), None: ("warn", "33")}


def safe(text: object) -> str:
    r"""Return a line of untrusted text with control, format and line-separating characters escaped, as ``\x1b``."""
    line = str(text)
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() or c in _ALLOWED else _escaped(c) for c in line)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def safe_lines(text: object) -> str:
    """Return untrusted text of several lines, escaped as by :func:`safe`, with line ends and tabs kept."""
    return "\n".join("\t".join(safe(cell) for cell in line.split("\t")) for line in str(text).split("\n"))


def painted(text: str, code: str, colour: bool) -> str:  # noqa: FBT001  `colour` describes the stream and is no mode
    """Return ``text`` in the colour ``code`` (an SGR parameter), or unchanged if the stream shows no ``colour``."""
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows as aligned columns, two spaces apart, without trailing blanks. Cells are escaped."""
    cells = [list(header), *([safe(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def to_json(value: object, *, lines: bool = False) -> str:
    """Return JSON for answers, and for dicts and lists of them. ``lines``: on one line.

    The JSON is ASCII, so that no text in it can control a terminal.
    """
    import json  # noqa: PLC0415  takes longer to import than this whole file, and most commands do not need it

    return json.dumps(for_json(value), indent=None if lines else 2).replace(
        "\x7f", "\\u007f"
    )  # DEL, which json does not escape


def plain(answer: Answer) -> dict[str, Any]:
    """Return the JSON form of an answer, as a dict to which more can be added."""
    found: dict[str, Any] = for_json(answer)
    return found


def state(word: object, colour: bool) -> str:  # noqa: FBT001
    """Return an app's state in the colour of that state."""
    text = safe(word)
    return painted(text, _STATE_COLOUR.get(text, ""), colour)


def apps_table(apps: Sequence[AppStatus], colour: bool, now: float) -> str:  # noqa: FBT001
    """Return the text of ``flytectl app ls``: a row per app, by name. ``now``: seconds since 1970.

    AGE is the time since the app's revision was served.
    """
    scoped = any(_scope(app.project, app.domain) for app in apps)
    several = any(app.max_replicas > 1 for app in apps)
    header = ["NAME", *(["PROJECT"] if scoped else []), "STATE", *(["REPLICAS"] if several else [])]
    header += ["REV", "AGE", "URL"]
    rows = [
        [
            app.name,
            *([f"{app.project}/{app.domain}"] if scoped else []),
            app.state,
            *([f"{running(app)}/{app.max_replicas}"] if several else []),
            str(app.revision),
            span(max(now - (app.serving_since or app.updated_at or now), 0)),
            app.url,
        ]
        for app in sorted(apps, key=lambda app: (app.name, app.project, app.domain))
    ]
    text = table(header, rows)
    return _coloured_column(text, header.index("STATE"), rows) if colour else text


def _coloured_column(text: str, column: int, rows: Sequence[Sequence[str]]) -> str:
    head, *lines = text.split("\n")
    done = [head]
    for line, row in zip(lines, rows, strict=True):
        word = safe(row[column])
        start = line.index(f"  {word} ", len(safe(row[0]))) + 2 if word else 0
        done.append(line[:start] + state(word, colour=True) + line[start + len(word) :] if word else line)
    return "\n".join(done)


def _scope(project: str, domain: str) -> str:
    """Return the ``project/domain`` of an app or secret, or "" if it is in the default scope."""
    return "" if (project, domain) in (("default", "development"), ("", "")) else f"{project or '*'}/{domain}"


def app_details(app: AppStatus, colour: bool) -> str:  # noqa: FBT001
    """Return the text of ``flytectl app get NAME``: one line for each fact that is known about the app."""
    head = f"{safe(app.name)}: {state(app.state, colour)}"
    if app.reason:
        head += f" ({safe(app.reason)})"
    facts = [(label, text) for label, text in _facts(app) if text]
    width = max((len(label) for label, _ in facts), default=0)
    return "\n".join([head, *(f"  {label.ljust(width)}  {safe(text)}" for label, text in facts)])


def _facts(app: AppStatus) -> list[tuple[str, str]]:
    found = [
        ("URL", app.url),
        ("Scope", _scope(app.project, app.domain)),
        ("About", app.description),
        ("Type", app.type),
        ("Revision", _revision(app)),
        ("Desired", "stopped" if app.wanted == "stopped" else ""),
        ("Python", _python(app.image) if app.image else ""),
        ("Image", _image(app.image) if app.image else ""),
        ("Note", app.image.note if app.image else ""),
        ("Limits", _limits(app)),
        ("GPU", _gpu(app.gpu) if app.gpu else ""),
        ("Sleeps", _sleeps(app)),
        ("Replicas", scaling(app)),
        ("Network", "" if app.egress else "no connections to other machines"),
        ("May call", ", ".join(app.calls)),
        ("Called by", ", ".join(app.callers)),
        ("Port", _port(app)),
        ("Ready", _ready(app)),
        ("Access", "with a token only: flytectl token" if app.requires_auth else ""),
        ("Open", _open(app.open_paths)),
        ("Requests", f"{app.requests.in_flight} now, {app.requests.total} so far" if app.requests else ""),
        ("Data", where_data_is(app.data) if app.data else ""),
    ]
    if app.max_replicas > 1:
        found += [("Replica", replica(each)) for each in app.replicas]
    found += [("Secret", f"{use.key} as {_target(use)}") for use in app.secrets]
    found += [("Model", f"{name} in {folder}") for name, folder in app.models]
    found += [("Link", f"{title}: {path}") for title, path in app.links]
    found += [("Not done", text) for text in app.unmet]
    found += [("Note", text) for text in app.notes]
    found += [("Unit", f"{unit.name}  {unit.active} ({unit.sub})") for unit in app.units]
    if app.last_failure:
        found.append(("Failed", f"revision {app.last_failure.revision}: {app.last_failure.reason}"))
    return found


def _revision(app: AppStatus) -> str:
    """Return the number of the serving revision, since when it serves, and who deployed it.

    A deploy that failed or changed nothing leaves that time as it is.
    """
    if not app.revision:
        return "none has been ready yet"
    since = f", since {for_people(app.serving_since)}" if app.serving_since else ""
    return f"{app.revision}{since}" + (f", deployed by {app.deployed_by}" if app.deployed_by else "")


def _ready(app: AppStatus) -> str:
    found = [
        f"when {app.ready_path} answers" if app.ready_path else "",
        f"within {app.start_timeout_s:g} s" if app.start_timeout_s else "",
    ]
    return " ".join(word for word in found if word)


def _python(image: ImageStatus) -> str:
    other = image.asked and not image.python.startswith(image.asked)
    return image.python + (f" (asked for {image.asked})" if other else "")


def _image(image: ImageStatus) -> str:
    if not image.built_at:
        return ""
    bases = "".join(f", from {name} ({digest})" for name, digest in image.digests)
    return f"built {for_people(image.built_at)}{bases}" + (
        f", from source: {', '.join(image.built)}" if image.built else ""
    )


def _limits(app: AppStatus) -> str:
    cpu = f"{app.cpu_cores:g} CPU" if app.cpu_cores else "any CPU"
    shared = f", {human_bytes(app.shm_bytes)} of /dev/shm in it" if app.shm_bytes else ""
    rate = f", {app.requests_per_s:g} requests a second of one client" if app.requests_per_s else ""
    return f"{cpu}, {human_bytes(app.memory_bytes)} of memory{shared}{rate}"


def _open(paths: Sequence[str] | None) -> str:
    """Return the paths that the ingress forwards to an app that checks a key itself."""
    return "" if paths is None else f"{', '.join(paths) or 'no path'}, and nothing else"


def _port(app: AppStatus) -> str:
    spoken = " (HTTP/2)" if app.protocol == "h2c" else ""
    return f"{app.port}{spoken}, in a network of its own" if app.port else ""


def _gpu(gpu: GpuUse) -> str:
    """Return the GPUs that an app requests, the GPUs that it holds, and its peak memory use so far."""
    asked = " ".join(filter(None, (gpu.name or "GPU", gpu.partition)))
    held = ", ".join(f"{device.name} {device.uuid}, since {for_people(device.since)}" for device in gpu.devices)
    peak = f"; needs {human_bytes(gpu.peak_bytes)}" if gpu.peak_bytes else ""
    return f"{gpu.count} × {asked}: {held or 'none held'}{peak}"


def _sleeps(app: AppStatus) -> str:
    if app.min_replicas:
        return "never"
    if app.idle == "freeze":
        then = f"and stopped {app.stop_after_s:g} s later" if app.stop_after_s else "until its next request"
        return f"after {app.scaledown_after_s:g} s without a request, frozen {then}"
    how = f", by vLLM's sleep level {app.engine_sleep}" if app.engine_sleep else ""
    return f"after {app.scaledown_after_s:g} s without a request{how}"


def where_data_is(data: AppFolder) -> str:
    """Return a text with the size and the folder of an app's data."""
    cache = f"; {human_bytes(data.cache_bytes)} of cache" if data.cache_bytes else ""
    return f"{amount(data)}, {data.folder}{cache}"


def amount(data: AppFolder) -> str:
    """Return the size of an app's data and its number of files; "at least" if they could not all be counted."""
    least = "" if data.complete else "at least "
    return f"{least}{human_bytes(data.bytes)} in {counted(data.files, 'file')}"


def counted(number: int, what: str) -> str:
    """Return ``number`` and the noun ``what``, in the plural unless the number is 1."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _target(use: UsedSecret) -> str:
    return f"${use.env}" if use.env else f"/etc/flyte/secrets/{use.file}"


def secrets_table(secrets: Sequence[SecretStatus]) -> str:
    """Return the text of ``flytectl secret ls``: a row per secret, never its value."""
    scoped, damaged = any(_scope(s.project, s.domain) for s in secrets), any(s.damaged for s in secrets)
    header = ["KEY", *(["SCOPE"] if scoped else []), "UPDATED", *(["STATE"] if damaged else [])]
    rows = [
        [
            s.key,
            *([_scope(s.project, s.domain)] if scoped else []),
            for_people(s.updated_at),
            *(["DAMAGED" if s.damaged else "ok"] if damaged else []),
        ]
        for s in secrets
    ]
    return table(header, rows)


def secret_details(secret: SecretStatus) -> str:
    """Return the text of ``flytectl secret get KEY``: what is known about a secret, never its value."""
    facts = [
        ("Scope", _scope(secret.project, secret.domain) or "the whole machine"),
        ("Used by", ", ".join(secret.apps or ())),
        ("Images of", ", ".join(secret.images or ())),
        ("Settings", ", ".join(secret.settings or ())),
        ("Created", for_people(secret.created_at)),
        ("Updated", for_people(secret.updated_at)),
        ("State", "DAMAGED: replace it (flytectl secret create KEY --replace)" if secret.damaged else ""),
    ]
    lines = [f"  {label.ljust(10)}  {safe(text)}" for label, text in facts if text]
    return "\n".join([safe(secret.key), *lines])


def log_line(line: LogLine) -> str:
    """Return a line of an app's log: local time, the replica if not the first, and the text.

    The source stands before the text if it is systemd or flyted.
    """
    text = (f"[{line.replica}] " if line.replica else "") + (
        f"{line.source}: " if line.source in ("systemd", "flyted") else ""
    )
    return f"{local(line.time / 1e6)} {text}{safe_lines(line.text)}"


def check_lines(check: Check, width: int, colour: bool) -> str:  # noqa: FBT001
    """Return the result of one check of ``flytectl doctor``, and its hint if the check did not pass.

    ``width``: the length of the longest name of a check.
    """
    word, code = _MARK[check.ok]
    mark = painted(word.ljust(4), code, colour)
    line = f"{mark}  {safe(check.name).ljust(width)}  {safe(check.detail)}".rstrip()
    if check.hint and check.ok is not True:
        line += f"\n      {' ' * width}hint: {safe(check.hint)}"
    return line


def error_text(message: str, hint: str) -> str:
    """Return the text of an error: what failed and why, then the hint, which says what to type next."""
    lines = [f"flytectl: {safe_lines(message)}"]
    if hint:
        first, *more = hint.split("\n")
        lines += [f"  hint: {safe(first)}", *(f"        {safe(part)}" for part in more)]
    return "\n".join(lines)


def error_json(code: str, message: str, hint: str) -> str:
    """Return an error for ``--json``, on one line."""
    return to_json({"error": message, "hint": hint, "code": code}, lines=True)


def event_text(event: Event, colour: bool) -> str:  # noqa: FBT001
    """Return the text of a progress event of a deploy, for stderr."""
    text = safe_lines(event.text)
    if event.kind == BUILD:
        return painted(f"  | {text}", "2", colour)
    if isinstance(event, LogLine):
        return f"  | {log_line(event)}"
    return painted("note: ", "33", colour) + text if event.kind == NOTE else text
