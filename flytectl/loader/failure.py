"""Describes the failures of the user's file as data, from which flytectl makes one of its errors (loaded.py)."""

from __future__ import annotations

import os
import re
import sys
import traceback
from pathlib import Path

HERE = str(Path(__file__).resolve().parent)
# Libraries name a missing package in an error's text: 'Form data requires "python-multipart" to be installed' in a
# RuntimeError, 'jinja2 must be installed to use Jinja2Templates' in an AssertionError or ImportError, or
# 'pip install openpyxl'.
WANTED = (
    re.compile(r"""pip3? install ["'`]?([A-Za-z0-9][\w.-]*\w)"""),
    re.compile(r"""([A-Za-z0-9][\w.-]*\w)["'`]? (?:to|must|needs to) be installed\b"""),
)
LONGEST_TRACEBACK = 32_000  # characters; of a longer one, as of a deep recursion, both ends are shown


class LoadError(Exception):
    """The reason why there is nothing to serve.

    ``kind``: a word that ``flytectl/loaded.py`` maps to an error. ``trace``: the user's traceback. ``module``: the
    missing module.
    """

    def __init__(self, kind: str, message: str, *, hint: str = "", trace: str = "", module: str = "") -> None:
        super().__init__(message)
        self.module = module
        self.kind = kind
        self.message = message
        self.hint = hint
        self.trace = trace

    def document(self) -> dict[str, dict[str, str]]:
        """Return the error as a JSON document."""
        return {
            "error": {
                "kind": self.kind,
                "message": self.message,
                "hint": self.hint,
                "traceback": self.trace,
                "module": self.module,
            }
        }


def from_user_code(error: BaseException, file: Path, root: Path) -> LoadError:
    """Return the failure of the import of ``file``, with a traceback of the user's own frames only."""
    trace = user_traceback(error, root)
    name = file.name
    if isinstance(error, SyntaxError) and Path(error.filename or "").is_file():
        return LoadError("syntax", _invalid(error, file, root), trace=trace)
    if isinstance(error, ModuleNotFoundError) or _wanted(error):
        return _missing_module(error, name, trace)
    if isinstance(error, SystemExit):
        return LoadError(
            "import",
            f"{name} exits when it is imported: sys.exit({error.code!r})",
            hint="put code that is to run only as a script under: if __name__ == '__main__':",
            trace=trace,
        )
    return LoadError(
        "import",
        f"{name} cannot be imported: {type(error).__name__}: {_text(error)}".rstrip(": "),
        hint=_hint(error),
        trace=trace,
    )


def _invalid(error: SyntaxError, file: Path, root: Path) -> str:
    """Return which file is not valid Python: ``file``, or one that it imports.

    An error without a file comes from ``ast.literal_eval``, ``compile`` or a ``raise``, and is one like any other.
    """
    wrong = Path(error.filename or "").resolve()
    line = f" (line {error.lineno})" if error.lineno else ""
    if wrong == file.resolve():
        return f"{file.name} is not valid Python{line}"
    shown = wrong.relative_to(root.resolve()) if wrong.is_relative_to(root.resolve()) else wrong
    return f"{file.name} cannot be imported: {shown} is not valid Python{line}"


def _wanted(error: BaseException) -> str:
    """Return the package that a library's error asks to install; "" if it asks for none."""
    if not isinstance(error, (ImportError, RuntimeError, AssertionError)):
        return ""
    return next((found[1] for pattern in WANTED if (found := pattern.search(_text(error)))), "")


def _missing_module(error: BaseException, name: str, trace: str) -> LoadError:
    """Return the failure of an import that lacks a module.

    flytectl adds the hint, since it knows why this Python was chosen (load.py).
    """
    module = (error.name or "") if isinstance(error, ModuleNotFoundError) else _wanted(error)
    if isinstance(error, ModuleNotFoundError) and module:
        what = f"there is no module {module!r}"
    else:
        what = f"{type(error).__name__}: {_text(error).strip()}".split("\n", 1)[0].rstrip(" .")
    return LoadError(
        "missing-module",
        f"{name} cannot be imported: {what} (imported by {sys.executable}, Python {sys.version.split()[0]})",
        trace=trace,
        module=module,
    )


def _hint(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, KeyError) and frames and frames[-1].filename in {os.__file__, "<frozen os>"}:
        return (
            "only the running app has secrets, not the import of its file: "
            "read the variable with os.getenv(), or inside a function"
        )
    return ""


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 -- a user's __str__ may raise anything
        return ""


def user_traceback(error: BaseException, root: Path) -> str:
    """Return Python's traceback without the frames of this loader, importlib, the SDK and other libraries."""
    summary = traceback.TracebackException.from_exception(error, compact=True)
    _trim(summary, root, set())
    text = "".join(summary.format())
    if len(text) > LONGEST_TRACEBACK:
        half = LONGEST_TRACEBACK // 2
        text = f"{text[:half]}\n  […]\n{text[-half:]}"
    return text


def _trim(summary: traceback.TracebackException, root: Path, seen: set[int]) -> None:
    if id(summary) in seen:
        return
    seen.add(id(summary))
    summary.stack = traceback.StackSummary.from_list(_users(summary.stack, root))
    linked = [summary.__cause__, summary.__context__, *(getattr(summary, "exceptions", None) or [])]
    for other in linked:
        if other is not None:
            _trim(other, root, seen)


def _users(stack: traceback.StackSummary, root: Path) -> list[traceback.FrameSummary]:
    strangers = [sys.prefix, sys.base_prefix, HERE]
    own = [
        frame
        for frame in stack
        if _below(frame.filename, str(root)) and not any(_below(frame.filename, s) for s in strangers)
    ]
    # A file below /usr, or code run from a string, has no frame of its own: then show the libraries' frames too.
    return own or [
        frame for frame in stack if not frame.filename.startswith("<frozen") and not _below(frame.filename, HERE)
    ]


def _below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)
