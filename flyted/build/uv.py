"""Runs uv with chosen variables, and passes its output on as it arrives."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .failed import Failed, NeedsSource
from .words import EX_CONFIG, EX_INSTALL, REASON

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_HIDDEN = {"CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID"}
_REASON_LINES = 60
_REASON_LENGTH = 600
_NEEDS_SOURCE = re.compile(
    r"^(?:hint: Wheels are required for `(?P<a>[^`]+)` because building from source is disabled"
    r"|error: Building source distributions is disabled, but attempted to build `(?P<b>[^`]+)`"
    r"|[^`\n]*Building source distributions for `(?P<d>[^`]+)` is disabled"
    r"|hint: A source distribution is required for `(?P<c>[^`]+)` because)",
    re.MULTILINE,
)
_REASON = re.compile(REASON)


@dataclass(frozen=True)
class Uv:
    """One uv with its folders: ``images`` holds the Pythons, ``scratch`` lives as long as the build.

    The cache has to be on the same mount as the image, or uv cannot make hard links between the two.
    """

    program: str
    images: Path
    cache: Path
    scratch: Path
    secrets: Mapping[str, str] = field(default_factory=dict)  # values by variable

    def environment(self) -> dict[str, str]:
        """Return uv's variables: ours, those of the unit (for the network), and the secrets.

        Nothing that an earlier build may have left has an effect: the home folder is new each time, or a build script
        could plant settings for the next build there.
        """
        given = {name: value for name, value in os.environ.items() if name not in _HIDDEN}
        usual = {"UV_PYTHON_PREFERENCE": "system"}  # the distribution patches its Python, but not a downloaded one
        if CERTIFICATES.exists():
            usual["UV_SYSTEM_CERTS"] = "1"  # a company's own CA is there, and not in uv's list
        fixed = {
            "HOME": str(self.scratch),
            "XDG_CONFIG_HOME": str(self.scratch / "config"),
            "UV_CACHE_DIR": str(self.cache),
            "UV_PYTHON_INSTALL_DIR": str(self.images / ".python"),
            "UV_LINK_MODE": "hardlink",
            "UV_NO_PROGRESS": "1",
            "NO_COLOR": "1",
        }
        return {**usual, **given, **fixed, **self.secrets}

    def without_secrets(self, text: str) -> str:
        """Return uv's output with each secret replaced by ``***``, however it is quoted in an address."""
        for value in sorted(self.secrets.values(), key=len, reverse=True):
            if len(value) <= len(text):
                text = _spellings(value).sub("***", text)
        return text

    def run(self, what: str, *words: str) -> list[str]:
        """Run uv to its end, its output going where ours goes; return the lines of its standard error.

        Raises :class:`NeedsSource` when a package has no wheel: uv's own error is then not passed on, since the build
        goes on elsewhere. Raises :class:`Failed` for ``what``, with uv's reason, for everything else.
        """
        sys.stdout.flush()
        lines: list[str] = []
        held: list[bytes] = []
        with self._start(words) as process:
            assert process.stderr is not None  # noqa: S101  asked for below
            for told in process.stderr:
                line = self.without_secrets(told.decode(errors="surrogateescape")).encode(errors="surrogateescape")
                if held or line.startswith((b"error:", b"hint:")):
                    held.append(line)
                else:
                    os.write(2, line)
                lines.append(line.decode(errors="replace").rstrip())
        if process.returncode and (package := needs_source("\n".join(lines))):
            raise NeedsSource(f"{package} has to be built from source")
        os.write(2, b"".join(held))
        if process.returncode:
            why = reason(lines[-_REASON_LINES:]) or f"uv exited with status {process.returncode}"
            raise Failed(EX_INSTALL, f"{what}: {why}")
        return lines

    def ask(self, *words: str, timeout: float = 60, more: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Run uv and return its exit status, standard output and standard error; the status is -1 after ``timeout`` s.

        ``more``: further variables; those of :meth:`environment` win. Raises :class:`Failed` if uv cannot be run.
        """
        environment = {**(more or {}), **self.environment()}
        try:
            done = subprocess.run(
                [self.program, *words], check=False, capture_output=True, text=True, errors="replace",
                stdin=subprocess.DEVNULL, env=environment, cwd="/", timeout=timeout,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return -1, "", f"error: not finished after {timeout:.0f} s"
        except OSError as error:
            raise Failed(EX_CONFIG, f"{self.program} cannot be run: {error.strerror}") from error
        return done.returncode, done.stdout, self.without_secrets(done.stderr)

    def _start(self, words: tuple[str, ...]) -> subprocess.Popen[bytes]:
        try:
            # cwd: uv reads settings from this folder and those above it; in a venv a package may have put some
            return subprocess.Popen(
                [self.program, *words], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env=self.environment(), cwd="/",
            )  # fmt: skip
        except OSError as error:
            raise Failed(EX_CONFIG, f"{self.program} cannot be run: {error.strerror}") from error


@functools.cache
def _spellings(value: str) -> re.Pattern[str]:
    """Return a pattern of all spellings of a value in an address.

    Each character is as it is or percent-quoted: which ones are quoted depends on the library and on the part of the
    address. ``!`` of a password mostly is not, ``:`` is; a space may be ``+``.
    """
    return re.compile("".join(f"(?:{_quoted(each)}|{re.escape(each)})" for each in value))


def _quoted(character: str) -> str:
    quoted = "".join(f"%{byte:02x}" for byte in character.encode())
    return rf"(?i:{quoted})|\+" if character == " " else f"(?i:{quoted})"


def needs_source(said: str) -> str:
    """Return the package that uv may not build, from its output; empty if uv failed for another reason."""
    found = _NEEDS_SOURCE.search(said)
    return next(filter(None, found.groups())) if found else ""


def reason(lines: list[str]) -> str:
    """Return uv's reason as one line of its last lines: the innermost cause, a `╰─▶` explanation, or its `error:`."""
    starts = [n for n, line in enumerate(lines) if _REASON.match(line)]
    if not starts:
        return lines[-1].strip()[:_REASON_LENGTH] if lines else ""
    first = starts[-1]
    words = [_REASON.sub("", lines[first])]
    for line in lines[first + 1 :]:
        if not line.strip() or re.match(r"\s*(?:hint|warning):", line):
            break
        words.append(line.strip())
    return " ".join(words).strip()[:_REASON_LENGTH]
