"""OpenAI's own Python client on the machine: a program of alice's that does one thing and says what became of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.machine.kit.users import becoming, environment, give

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_PROGRAM = Path(__file__).parents[2] / "apps" / "openai_client.py"


def started(
    python: Path, url: str, what: str, *, key: str, model: str = "tiny", certificates: str = CERTIFICATES
) -> subprocess.Popen[str]:
    """The program, running with the variables that the manual tells her to set. ``python``: it has the client."""
    give(_PROGRAM.name, _PROGRAM.read_text())
    words = [*becoming("alice"), str(python), "-I", f"/home/alice/{_PROGRAM.name}", f"{url}/v1", what, model]
    more = {"OPENAI_API_KEY": key, "SSL_CERT_FILE": certificates}
    return subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/home/alice",
        env={**environment("alice"), **more},
    )  # fmt: skip


def outcome(program: subprocess.Popen[str], typed: str = "") -> dict[str, Any]:
    """What became of it, once ``typed`` was typed."""
    with program:
        out, err = program.communicate(typed, timeout=330)
    assert program.returncode == 0, err
    return dict(json.loads(out.splitlines()[-1]))
