"""Where the Flyte command and SDK find this machine: what ``flytectl config init`` asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flyted.contract.names import GATEWAY_HOST
from flyted.daemon.verbs import Call, Right, Verb


class Gateway:
    """The gateway's address. ``https_port`` is asked each time: the ingress may have moved."""

    def __init__(self, https_port: Callable[[], int], ca_file: Path) -> None:
        self._https_port = https_port
        self._ca_file = ca_file

    def verbs(self) -> dict[str, Verb]:
        """The rows of the verb table."""
        return {"gateway.show": Verb(Right.READ, {}, self.show)}

    async def show(self, _call: Call) -> dict[str, Any]:
        """Host and port, and the file with the CA's certificate that everybody here may read."""
        return {"host": GATEWAY_HOST, "https_port": self._https_port(), "ca_file": str(self._ca_file)}
