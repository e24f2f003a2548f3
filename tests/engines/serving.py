"""A real engine behind flyted, and what its tests ask of it. One engine at a time: each takes gigabytes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyted.plan.layout import Layout
from tests import tiny_model
from tests.machine.kit.leaks import Search
from tests.machine.kit.openai_client import outcome, started
from tests.machine.kit.users import alice, answer, by, give, may_serve

ENVIRONMENT = Path("/srv/engines")
"""Where tests/run has put what tests/engines/environment makes."""
MODEL = Path("/srv/models/tiny")
SCRIPTS = Path(__file__).parents[1] / "document"
KEY = "my-llm-api-key-12345"
NAME = "qwen3-0.6b"
"""What the guide's scripts call the model."""
CANARY = Search(KEY)
START_S = 300  # two busy cores


@dataclass
class Served:
    """An engine that serves. ``said``: what serve printed; ``seconds``: how long the starts took."""

    app: str
    url: str
    said: str
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """Its service."""
        found: str = next(u["name"] for u in answer("app", "get", self.app)["units"] if u["name"].endswith(".service"))
        return found

    @property
    def state(self) -> str:
        """What the daemon says of it."""
        found: str = answer("app", "get", self.app)["state"]
        return found

    def show(self, name: str) -> str:
        """A property of its unit."""
        return _output("systemctl", "show", "--value", f"--property={name}", self.unit)

    def environ(self) -> dict[str, str]:
        """The variables that flyted gives it, in a file that root can read (flyted/plan/start.py)."""
        given: dict[str, str] = json.loads(Path(Layout().starts, self.unit).read_text())["environment"]
        return given

    def processes(self) -> list[int]:
        """All of its unit."""
        group = self.show("ControlGroup")
        lines = Path(f"/sys/fs/cgroup{group}/cgroup.procs").read_text().split() if group else []
        return [int(line) for line in lines]

    def inside(self, path: str) -> str:
        """What the engine itself answers, asked in its own network: nothing is closed there."""
        return _output(
            "nsenter", "--target", self.show("MainPID"), "--net", "curl", "-sS", "--max-time", "30",
            "--config", "-", f"http://127.0.0.1:8080{path}", typed=f'header = "Authorization: Bearer {KEY}"',
        )  # fmt: skip

    def ask(self, path: str, body: Any = None, key: str = KEY, seconds: int = START_S) -> tuple[int, str]:
        """Status and body of a request through HTTPS, a POST when it has a body."""
        options = ["-sS", "--path-as-is", "--max-time", str(seconds), "-w", "\n%{http_code}", "--config", "-"]
        options += ["-H", "Content-Type: application/json", "-d", json.dumps(body)] if body is not None else []
        header = f'header = "Authorization: Bearer {key}"\n' if key else ""
        done = alice("curl", *options, f"{self.url}{path}", typed=header)
        said, _, status = done.stdout.rpartition("\n")
        return int(status), said

    def chat(self, key: str = KEY) -> tuple[int, str]:
        """A question that a chat model answers: status, and the text or what else was said."""
        status, body = self.ask("/v1/chat/completions", question(), key)
        return status, json.loads(body)["choices"][0]["message"]["content"] if status == 200 else body

    def client(self, what: str, key: str = KEY, typed: str = "") -> dict[str, Any]:
        """What OpenAI's client gets to see: see openai_client.py of the apps."""
        return outcome(started(ENVIRONMENT / "bin/python", self.url, what, key=key, model=NAME), typed)

    def journal(self) -> str:
        """Its own lines."""
        return _output("journalctl", "--no-pager", "--output=cat", f"--unit={self.unit}")


def question(**more: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": NAME, "messages": [{"role": "user", "content": "Who are you?"}], **more}


ANSWER = tiny_model.ANSWER


def prepare() -> None:
    """What somebody has done before the first engine: the group, the certificate, the key, the model."""
    may_serve()
    if "AUTH_SECRET" not in {s["key"] for s in answer("secret", "ls")["secrets"]}:
        alice("flytectl", "secret", "create", "AUTH_SECRET", "-", typed=KEY)
    if not MODEL.exists():
        subprocess.run([sys.executable, tiny_model.__file__, str(MODEL)], check=True)
    alice("flytectl", "model", "add", "Qwen/Qwen3-0.6B", str(MODEL))


@contextmanager
def served(script: str, app: str, *flags: str) -> Iterator[Served]:
    """The guide's script, byte for byte, served without a GPU; nothing of it is left at the end."""
    prepare()
    source = SCRIPTS / script
    give(script, source.read_text())
    assert Path("/home/alice", script).read_bytes() == source.read_bytes()
    try:
        started = time.monotonic()
        with CANARY.never_on_the_bus(), CANARY.never_in_command_lines():
            done = alice("flytectl", "serve", script, "--cpu", "--python-env", str(ENVIRONMENT), *flags)
        url = done.stdout.strip()
        yield Served(app, url, done.stderr, {"first start": time.monotonic() - started})
    finally:
        by("alice", "flytectl", "app", "delete", "--yes", app)


def _output(*words: str, typed: str = "") -> str:
    return subprocess.run(words, input=typed, capture_output=True, text=True, check=True).stdout.strip()
