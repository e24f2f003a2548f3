"""Linters are tests. A tool that is missing skips its case on a laptop and fails it where CI or tests/run runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYTHON = [p for p in ("flyted", "flytectl", "tests", "benchmarks", "packaging") if any((ROOT / p).rglob("*.py"))]
LONGEST_FILE = 350
"""Lines."""
SHELL = ("#!/bin/sh", "#!/bin/bash", "#!/usr/bin/env bash", "#!/usr/bin/bash")


def tool(name: str) -> str:
    """The tool beside this Python, else on the path."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        message = f"{name} is not installed: pip install -r tests/requirements.txt"
        if os.environ.get("CI") or os.environ.get("FLYTED_CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def check(*command: str) -> None:
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{Path(command[0]).name}:\n{done.stdout}{done.stderr}"


def tracked() -> list[Path]:
    """The files of the repository: what git knows or would add; all files when this is no git checkout."""
    listed = (
        subprocess.run(
            ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-coz", "--exclude-standard"],
            check=False,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if shutil.which("git") and (ROOT / ".git").exists()
        else None
    )
    if listed is not None and listed.returncode == 0:
        return sorted(ROOT / name for name in set(listed.stdout.split("\0")) if name and (ROOT / name).is_file())
    skip = {".git", "build", "__pycache__"}
    return sorted(p for p in ROOT.rglob("*") if p.is_file() and not skip & set(p.relative_to(ROOT).parts))


def is_shell(path: Path) -> bool:
    if path.suffix == ".sh" or (path.parent.name == "debian" and path.suffix in {".postinst", ".prerm", ".postrm"}):
        return True
    if path.suffix:
        return False
    with path.open("rb") as file:
        return file.readline(64).decode("utf-8", "replace").startswith(SHELL)


def python_files() -> list[Path]:
    return [p for p in tracked() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in PYTHON]


def test_no_file_is_long() -> None:
    """A file is about one thing: what is longer is split by subject, and not squeezed."""
    files = python_files()
    assert len(files) > 500, "this check looks at nothing"
    lines = {str(p.relative_to(ROOT)): p.read_bytes().count(b"\n") for p in files}
    assert {name: count for name, count in lines.items() if count > LONGEST_FILE} == {}


def test_ruff() -> None:
    """Every rule of ruff holds but those that pyproject.toml names with a reason."""
    check(tool("ruff"), "check", "--no-cache", "--quiet", ".")


@pytest.mark.parametrize(("docstring", "rules"), [("Returns one.", "D401"), ("Return one.", "")])
def test_a_docstring_begins_with_a_verb(tmp_path: Path, docstring: str, rules: str) -> None:
    """As an order, not as a description: PEP 257."""
    file = tmp_path / "one.py"
    file.write_text(f'"""Return a number."""\n\n\ndef one() -> int:\n    """{docstring}"""\n    return 1\n')
    settings = ("--config", str(ROOT / "pyproject.toml"), "--output-format", "concise", "--ignore", "INP001")
    done = subprocess.run(
        [tool("ruff"), "check", "--no-cache", "--quiet", *settings, str(file)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert [line.split()[1] for line in done.stdout.splitlines()] == rules.split()


def test_formatting() -> None:
    """Nobody argues about layout: ruff's formatter has nothing to change."""
    check(tool("ruff"), "format", "--no-cache", "--check", "--diff", "--quiet", *PYTHON)
