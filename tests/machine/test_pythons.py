"""Which Python imports a file, with real uv and Debian's own Python: what is chosen, and hints that can be typed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.machine.kit.users import alice, by

HOME = Path("/home/alice")
APP = """
import flyte.app
env = flyte.app.AppEnvironment(name="chosen", args=["true"], image="registry.example/refused:1")
"""
# What is told of a file that could be imported: its app has an image that is refused.
IMPORTED = "registry.example/refused:1"


def write(name: str, text: str) -> Path:
    """A file of alice's."""
    path = HOME / name
    alice("mkdir", "-p", str(path.parent))
    path.write_text(text)
    return path


def test_a_script_block_that_asks_for_one_minor_version() -> None:
    """``==3.13``, as Flyte's own examples have it: the environment that uv made imports the file, not Debian's Python.

    uv fetches through whatever inspects TLS here, by the system's list of authorities.
    """
    version = subprocess.run(
        ["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    block = f'# /// script\n# requires-python = "=={version}"\n# dependencies = ["flyte", "python-dotenv"]\n# ///\n'
    write("block.py", block + "import dotenv\n" + APP)
    assert IMPORTED in by("alice", "flytectl", "serve", "block.py").stderr


def test_what_is_hinted_can_be_typed() -> None:
    """Debian's Python lacks a package; the hint makes an environment with it, which a folder's name then chooses."""
    alice("rm", "-rf", "hinted")
    write("hinted/app.py", "import dotenv\n" + APP)
    said = by("alice", "sh", "-c", "cd hinted && flytectl serve app.py").stderr
    command = next(line.partition("or: ")[2] for line in said.splitlines() if " or: " in line)
    said = by("alice", "sh", "-c", f"cd hinted && {command}").stderr
    assert IMPORTED in said, said


def test_root_serves_a_users_file_from_a_folder_that_the_user_may_not_read() -> None:
    """The SDK looks for its configuration in the working directory, which is root's own here."""
    write("plain.py", APP)
    done = subprocess.run(
        ["flytectl", "serve", "--as", "alice", str(HOME / "plain.py")],
        cwd="/root", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert IMPORTED in done.stderr, done.stderr
    alice("rm", "-rf", "plain.py", "block.py", "hinted")
