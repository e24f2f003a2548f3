"""Returns the address at which the Flyte command and SDK find this machine, for ``flytectl config init``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flyted.contract.answers.machine import GatewayPlace
from flyted.contract.names import GATEWAY_HOST
from flyted.daemon.api.verbs import Call, Right, Verb


class Gateway:
    """The handler of ``gateway.show``. ``https_port()`` is called each time: the ingress may have moved."""

    def __init__(self, https_port: Callable[[], int], ca_file: Path) -> None:
        self._https_port = https_port
        self._ca_file = ca_file

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        return {"gateway.show": Verb(Right.READ, {}, self.show)}

    async def show(self, _call: Call) -> GatewayPlace:
        """Return host and port, and the file with the CA's certificate, which every user of this machine may read."""
        return GatewayPlace(GATEWAY_HOST, self._https_port(), str(self._ca_file))
