"""Alice follows Flyte's documentation: PyPI's ``flyte`` with flyted's companion, in an environment of her own."""

from __future__ import annotations

import shlex
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.machine.kit.users import Done, alice, becoming, environment, give, join_group

HOME = Path("/home/alice")
SHARE = Path("/usr/share/flyted")
ABORTED = frozenset({-signal.SIGABRT, 128 + signal.SIGABRT})
"""How the stock ``flyte`` ends now and then when all is done and said: the threads of its HTTP client are written in
Rust, and Python 3.13 and older end them in the middle of a call. A test checks by what follows that all was done."""


@dataclass(frozen=True)
class Desk:
    """A folder with alice's files and an environment whose ``flyte`` and ``python`` she uses there."""

    folder: Path
    environment: Path
    show: pytest.CaptureFixture[str] | None = None

    def run(self, command: str, seconds: float = 300) -> Done:
        """Runs a command line as it stands in the document, and prints it."""
        self.print(f"$ {command}")
        login = {**environment("alice"), "DO_NOT_TRACK": "1", "COLUMNS": "200"}
        login["PATH"] = f"{self.environment}/bin:{login['PATH']}"
        done = subprocess.run(
            [*becoming("alice"), "bash", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, timeout=seconds, cwd=self.folder, env=login,
        )  # fmt: skip
        self.print(done.stdout)
        return done

    def works(self, command: str) -> str:
        """What a command says that must work; its abort at the end is passed over."""
        done = self.run(command)
        assert done.returncode in {0, *ABORTED}, f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def fails(self, command: str, seconds: float = 180) -> str:
        """What a command says that must fail, and soon; without the frames of boxes around it."""
        done = self.run(command, seconds)
        assert done.returncode == 1, f"{command}: {done.returncode}\n{done.stdout}"
        return " ".join(done.stdout.replace("│", " ").split())

    def print(self, text: str) -> None:
        """To the terminal, past pytest: this is what a reader of the test wants to see."""
        if self.show is not None:
            with self.show.disabled():
                print(text.rstrip("\n"))


def files(folder: str, *paths: Path) -> Path:
    """Copies of files in a folder of alice's; and the configuration that ``flytectl config init`` prints."""
    for path in paths:
        give(f"{folder}/{path.name}", path.read_text())
    join_group()
    alice("sudo", "flytectl", "ca", "install")
    alice("sh", "-c", f"cd {shlex.quote(folder)} && flytectl config init > config.yaml")
    return HOME / folder


def clear(*secrets: str, apps: tuple[str, ...] = ()) -> None:
    """Forgets secrets and apps that a test before may have left, or this one has made."""
    for name in apps:
        alice("sh", "-c", f"flytectl app delete --yes --data {name} || true")
    for key in secrets:
        alice("sh", "-c", f"flytectl secret delete --yes {key} || true")
