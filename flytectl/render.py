"""Renders answers as text for people or JSON for programs. The only file with colours, columns and escaping.

All text from an app or the daemon passes :func:`safe` before it is written to a terminal, so that the terminal shows
an escape sequence in an app's output or description, and does not execute it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flytectl.times import for_json, local, span, told
from flyted.contract.quantity import human_bytes

APP_FIELDS = (
    "name", "project", "domain", "id", "url", "state", "reason", "revision", "deployed_by", "wanted", "created_at",
    "updated_at", "serving_since",
    "image", "units", "secrets", "min_replicas", "scaledown_after_s", "memory_bytes", "cpu_cores",
    "disk_bytes", "shm_bytes", "gpu", "egress", "port", "protocol", "ready_path", "start_timeout_s", "requires_auth",
    "open_paths", "engine_sleep", "models", "type", "description", "links", "unmet", "notes", "requests",
    "last_failure", "data",
)  # fmt: skip
SECRET_FIELDS = ("key", "project", "domain", "generation", "created_at", "updated_at", "damaged", "apps")
TOKEN_FIELDS = ("id", "kind", "name", "user", "app", "created_at", "expires_at", "used_at")
MODEL_FIELDS = ("name", "folder", "bytes", "problem", "added_at")
GPU_FIELDS = (
    "uuid", "name", "minor", "state", "error", "memory_bytes", "used_bytes", "free_bytes", "holders", "processes",
    "partitions",
)  # fmt: skip
CHECK_FIELDS = ("name", "ok", "detail", "hint")
LOG_FIELDS = ("app", "time", "revision", "source", "text")

_ALLOWED = frozenset("\u00a0\u200d\u202f\u3000")  # spaces, and the joiner inside emoji: not printable to Python
_STATE_COLOUR = {"running": "32", "sleeping": "36", "failed": "31", "stopped": "2", "unknown": "33"}
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
    """Return untrusted text of several lines made safe as by :func:`safe`, but with its line ends and tabs."""
    return "\n".join("\t".join(safe(cell) for cell in line.split("\t")) for line in str(text).split("\n"))


def painted(text: str, code: str, colour: bool) -> str:  # noqa: FBT001  `colour` is a fact of the stream, not a mode
    """Return ``text`` in the colour of ``code`` (SGR) if ``colour``, whether the stream shows colour, is true."""
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return aligned columns, two spaces apart, without trailing blanks. No cell breaks its line."""
    cells = [list(header), *([safe(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def to_json(value: object, *, lines: bool = False) -> str:
    """Return JSON in ASCII, so that no text in it can control a terminal. ``lines``: on one line."""
    import json  # noqa: PLC0415  costs more than all of this file, and most calls do not need it

    return json.dumps(value, indent=None if lines else 2).replace("\x7f", "\\u007f")  # DEL, which json does not escape


def fields(data: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the documented fields of an answer (the stable JSON schema) in the documented order, null if missing."""
    return {name: for_json(data.get(name), name) for name in names}


def state(word: object, colour: bool) -> str:  # noqa: FBT001
    """Return an app's state, in its colour."""
    text = safe(word)
    return painted(text, _STATE_COLOUR.get(text, ""), colour)


def apps_table(apps: Sequence[Mapping[str, Any]], colour: bool, now: float) -> str:  # noqa: FBT001
    """Return the text of ``flytectl app ls``: a row per app, by name. ``now``: seconds since 1970.

    AGE is the time since the app's revision was served.
    """
    scoped = any(_scope(app) for app in apps)
    header = ["NAME", *(["PROJECT"] if scoped else []), "STATE", "REV", "AGE", "URL"]
    rows = [
        [
            of(app, "name"),
            *([f"{of(app, 'project')}/{of(app, 'domain')}"] if scoped else []),
            of(app, "state"),
            of(app, "revision"),
            span(max(now - (app.get("serving_since") or app.get("updated_at") or now), 0)),
            of(app, "url"),
        ]
        for app in sorted(apps, key=lambda app: [of(app, key) for key in ("name", "project", "domain")])
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


def of(data: Mapping[str, Any], name: str) -> str:
    """Return a field as text; "" if it is missing or null."""
    value = data.get(name)
    return "" if value is None else str(value)


def _scope(data: Mapping[str, Any]) -> str:
    """Return ``project/domain`` of an app or secret; "" for the default scope of each."""
    project, domain = of(data, "project"), of(data, "domain")
    return "" if (project, domain) in (("default", "development"), ("", "")) else f"{project or '*'}/{domain}"


def app_details(app: Mapping[str, Any], colour: bool) -> str:  # noqa: FBT001
    """Return the text of ``flytectl app get NAME``: a line per fact about the app, without empty ones."""
    head = f"{safe(app.get('name'))}: {state(app.get('state'), colour)}"
    if app.get("reason"):
        head += f" ({safe(app['reason'])})"
    facts = [(label, text) for label, text in _facts(app) if text]
    width = max((len(label) for label, _ in facts), default=0)
    return "\n".join([head, *(f"  {label.ljust(width)}  {safe(text)}" for label, text in facts)])


def _facts(app: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [
        ("URL", of(app, "url")),
        ("Scope", _scope(app)),
        ("About", of(app, "description")),
        ("Type", of(app, "type")),
        ("Revision", _revision(app)),
        ("Desired", "stopped" if app.get("wanted") == "stopped" else ""),
        ("Python", _python(app.get("image") or {})),
        ("Image", _image(app.get("image") or {})),
        ("Limits", _limits(app)),
        ("GPU", _gpu(app.get("gpu"))),
        ("Sleeps", _sleeps(app)),
        ("Network", "no connections to other machines" if app.get("egress") is False else ""),
        ("Port", _port(app)),
        ("Ready", _ready(app)),
        ("Access", "with a token only: flytectl token" if app.get("requires_auth") else ""),
        ("Open", _open(app.get("open_paths"))),
        ("Requests", _requests(app.get("requests"))),
        ("Data", _data(app.get("data"))),
    ]
    found += [("Secret", f"{of(s, 'key')} as {_target(s)}") for s in app.get("secrets") or ()]
    found += [("Model", f"{name} in {folder}") for name, folder in app.get("models") or ()]
    found += [("Link", f"{title}: {path}") for title, path in app.get("links") or ()]
    found += [("Not done", text) for text in app.get("unmet") or ()]
    found += [("Note", text) for text in app.get("notes") or ()]
    found += [("Unit", f"{of(u, 'name')}  {of(u, 'active')} ({of(u, 'sub')})") for u in app.get("units") or ()]
    failure = app.get("last_failure")
    if failure:
        found.append(("Failed", f"revision {of(failure, 'revision')}: {of(failure, 'reason')}"))
    return found


def _revision(app: Mapping[str, Any]) -> str:
    """Return which revision serves, since when, and who deployed it.

    A deploy that failed or changed nothing does not change that time.
    """
    if not app.get("revision"):
        return "none has come up yet"
    since, by = app.get("serving_since"), of(app, "deployed_by")
    return of(app, "revision") + (f", since {told(since)}" if since else "") + (f", deployed by {by}" if by else "")


def _ready(app: Mapping[str, Any]) -> str:
    limit = app.get("start_timeout_s") or 0
    found = [
        f"when {of(app, 'ready_path')} answers" if app.get("ready_path") else "",
        f"within {limit:g} s" if limit else "",
    ]
    return " ".join(word for word in found if word)


def _python(image: Mapping[str, Any]) -> str:
    python, asked, note = of(image, "python"), of(image, "asked"), of(image, "note")
    if note:
        return f"{python}: {note}"
    return python + (f" (asked for {asked})" if asked and not python.startswith(asked) else "")


def _image(image: Mapping[str, Any]) -> str:
    if not image.get("built_at"):
        return ""
    built = ", ".join(str(each) for each in image.get("built") or ())
    return f"built {told(image['built_at'])}" + (f", from source: {built}" if built else "")


def _limits(app: Mapping[str, Any]) -> str:
    shared = f", {human_bytes(app['shm_bytes'])} of /dev/shm in it" if app.get("shm_bytes") else ""
    return f"{_cpu(app)}, {human_bytes(app.get('memory_bytes') or 0)} of memory{shared}"


def _open(paths: Sequence[str] | None) -> str:
    """Return the paths that the ingress lets through, for an app that checks a key itself."""
    return "" if paths is None else f"{', '.join(paths) or 'no path'}, and nothing else"


def _cpu(app: Mapping[str, Any]) -> str:
    cores = app.get("cpu_cores") or 0
    return f"{cores:g} CPU" if cores else "any CPU"


def _port(app: Mapping[str, Any]) -> str:
    spoken = " (HTTP/2)" if app.get("protocol") == "h2c" else ""
    return f"{app['port']}{spoken}, in a network of its own" if app.get("port") else ""


def _gpu(gpu: Mapping[str, Any] | None) -> str:
    """Return the GPUs that an app asks for, those that it holds, and its peak of memory so far."""
    if not gpu:
        return ""
    asked = " ".join(filter(None, (of(gpu, "name") or "GPU", of(gpu, "partition"))))
    held = ", ".join(f"{of(d, 'name')} {of(d, 'uuid')}, since {told(d['since'])}" for d in gpu.get("devices") or ())
    peak = f"; needs {human_bytes(gpu['peak_bytes'])}" if gpu.get("peak_bytes") else ""
    return f"{of(gpu, 'count')} × {asked}: {held or 'none held'}{peak}"


def _sleeps(app: Mapping[str, Any]) -> str:
    if app.get("min_replicas"):
        return "never"
    how = f", by vLLM's sleep level {app['engine_sleep']}" if app.get("engine_sleep") else ""
    return f"after {app.get('scaledown_after_s') or 0:g} s without a request{how}"


def _requests(counters: Mapping[str, Any] | None) -> str:
    if not counters:
        return ""
    return f"{of(counters, 'in_flight')} now, {of(counters, 'total')} so far"


def _data(data: Mapping[str, Any] | None) -> str:
    from flytectl.losses import where_data_is  # noqa: PLC0415  that module imports this one

    return where_data_is(data) if data else ""


def _target(use: Mapping[str, Any]) -> str:
    return f"${use['env']}" if use.get("env") else f"/etc/flyte/secrets/{of(use, 'file')}"


def secrets_table(secrets: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of ``flytectl secret ls``: a row per secret, never its value."""
    scoped, damaged = any(_scope(s) for s in secrets), any(s.get("damaged") for s in secrets)
    header = ["KEY", *(["SCOPE"] if scoped else []), "UPDATED", *(["STATE"] if damaged else [])]
    rows = [
        [
            of(s, "key"),
            *([_scope(s)] if scoped else []),
            told(s.get("updated_at") or 0),
            *([_health(s)] if damaged else []),
        ]
        for s in secrets
    ]
    return table(header, rows)


def _health(secret: Mapping[str, Any]) -> str:
    return "DAMAGED" if secret.get("damaged") else "ok"


def secret_details(secret: Mapping[str, Any]) -> str:
    """Return the text of ``flytectl secret get KEY``: what is known about a secret, never its value."""
    facts = [
        ("Scope", _scope(secret) or "the whole machine"),
        ("Used by", ", ".join(str(app) for app in secret.get("apps") or ())),
        ("Created", told(secret.get("created_at") or 0)),
        ("Updated", told(secret.get("updated_at") or 0)),
        ("State", "DAMAGED: replace it (flytectl secret create KEY --replace)" if secret.get("damaged") else ""),
    ]
    lines = [f"  {label.ljust(10)}  {safe(text)}" for label, text in facts if text]
    return "\n".join([safe(secret.get("key")), *lines])


def log_line(event: Mapping[str, Any]) -> str:
    """Return a line of an app's log: local time and text, after the source if that is systemd or flyted."""
    text = f"{event['source']}: " if event.get("source") in ("systemd", "flyted") else ""
    return f"{local((event.get('time') or 0) / 1e6)} {text}{safe_lines(of(event, 'text'))}"


def check_lines(check: Mapping[str, Any], width: int, colour: bool) -> str:  # noqa: FBT001
    """Return the result of one check of ``flytectl doctor``, with the hint unless it is ok.

    ``width``: that of the longest name of a check.
    """
    word, code = _MARK.get(check.get("ok"), _MARK[None])
    mark = painted(word.ljust(4), code, colour)
    line = f"{mark}  {safe(check.get('name')).ljust(width)}  {safe(check.get('detail'))}".rstrip()
    if check.get("hint") and check.get("ok") is not True:
        line += f"\n      {' ' * width}hint: {safe(check['hint'])}"
    return line


def error_text(message: str, hint: str) -> str:
    """Return the text of an error: what failed and why, then what to type next."""
    lines = [f"flytectl: {safe_lines(message)}"]
    if hint:
        first, *more = hint.split("\n")
        lines += [f"  hint: {safe(first)}", *(f"        {safe(part)}" for part in more)]
    return "\n".join(lines)


def error_json(code: str, message: str, hint: str) -> str:
    """Return an error for ``--json``, on one line."""
    return to_json({"error": message, "hint": hint, "code": code}, lines=True)


def event_text(event: Mapping[str, Any], colour: bool) -> str:  # noqa: FBT001
    """Return the text of a progress event of a deploy, for stderr."""
    text = safe_lines(of(event, "text"))
    kind = event.get("kind")
    if kind == "build":
        return painted(f"  | {text}", "2", colour)
    if kind == "log":
        return f"  | {log_line(event)}"
    return painted("note: ", "33", colour) + text if kind == "note" else text
