"""The gateway's unit, and calls to it without the SDK."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.machine.kit.pypi_flyte import GATEWAY
from tests.machine.kit.users import alice, curl

UNIT = "flyted-gateway.service"
STATE = Path("/var/lib/private/flyted-gateway")
CANARY = "gateway-canary-4711"
RPC = f"{GATEWAY}/flyteidl2.secret.SecretService/ListSecrets"


def pid() -> int:
    shown = subprocess.run(["systemctl", "show", "-P", "MainPID", UNIT], capture_output=True, text=True, check=True)
    return int(shown.stdout)


def token() -> str:
    return alice("flytectl", "token").stdout.strip()


def rpc(*options: str, body: str = "{}") -> tuple[int, str]:
    return curl(RPC, "-H", "Content-Type: application/json", "-d", body, *options)
