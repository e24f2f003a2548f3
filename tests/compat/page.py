"""Writes the tables into flyted-compat(7)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.compat.commands import COMMANDS
from tests.compat.fields import FIELDS
from tests.compat.remote import METHODS
from tests.compat.versions import FILE, read, span

PAGE = Path(__file__).parents[2] / "packaging/man/flyted-compat.7"
BEGIN, END = '.\\" begin of what python -m tests.compat writes', '.\\" end of it'
ABOUT = {
    "FIELDS": "The fields of an app file, and what a serve can be told.\n"
    "Those that are reported have no effect, and the app runs as well: it is said when the app is served.\n"
    "Those that only some versions of the SDK have are marked.\n"
    "Fields that a newer SDK adds are refused by name.",
    "COMMANDS": "The commands of\n.Ql flyte\nwith the companion that is in\n.Pa /usr/share/flyted .\n"
    "Those that are of the SDK alone, or local, ask no server.",
    "REMOTE": "The classes and methods of\n.Ql flyte.remote .\nProperties of what works work as well.",
}


def tables() -> str:
    """Return the sections with the tables."""
    rows = {
        "FIELDS": [(name, _marked("field", name, verdict), words) for name, (verdict, words) in FIELDS.items()],
        "COMMANDS": [(name, _marked("command", name, each.verdict), each.words) for name, each in COMMANDS.items()],
        "REMOTE": [(name, _marked("method", name, each.verdict), each.words) for name, each in METHODS.items()],
    }
    return "".join(f".Sh {title}\n{ABOUT[title]}\n{_list(found)}" for title, found in rows.items())


def _marked(kind: str, name: str, verdict: str) -> str:
    """Return the verdict with the versions of the SDK that it is of, if these are not all."""
    versions = span(f"{kind} {name}", read(FILE.read_text()))
    return f"{verdict} ({versions})" if versions else verdict


def _list(rows: Iterable[tuple[str, str, str]]) -> str:
    lines = ['.Bl -tag -width "with_servecontext.log_format" -compact']
    for name, verdict, words in rows:
        lines += [f".It Li {name}", f"{verdict}{f': {words}' if words else ''}."]
    return "\n".join([*lines, ".El", ""])


def written() -> str:
    """Return what the page has between the two marks. Raise ValueError if it lacks one of them."""
    text = PAGE.read_text()
    return text[text.index(BEGIN) + len(BEGIN) + 1 : text.index(END)]


def write() -> None:
    """Write the tables into the page."""
    PAGE.write_text(PAGE.read_text().replace(f"{BEGIN}\n{written()}", f"{BEGIN}\n{tables()}"))
