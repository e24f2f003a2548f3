"""Names the paths of this machine that units of apps use. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from flyted.contract.names import Replica


@dataclass(frozen=True)
class Layout:
    """The paths on this machine, and the group that the ingress runs as."""

    state: str = "/var/lib/flyted"
    run: str = "/run/flyted"
    launch: str = "/usr/lib/flyted/flyted/launch"
    resolver: str = "/usr/lib/flyted/resolv.conf"
    ingress_group: str = "haproxy"

    @property
    def apps(self) -> str:
        """The folder that holds the apps' sockets."""
        return f"{self.run}/apps"

    @property
    def starts(self) -> str:
        """The folder that holds the start documents of apps (plan/start.py), which PID 1 reads."""
        return f"{self.run}/starts"

    def start_file(self, replica: Replica) -> str:
        """Return the path of the replica's start document."""
        return f"{self.starts}/{replica.service}"

    @property
    def calls(self) -> str:
        """The folder with what replicas need to call other apps: a number and a hosts(5) file each."""
        return f"{self.run}/calls"

    def hosts_file(self, replica: Replica) -> str:
        """Return the path of the replica's own /etc/hosts."""
        return f"{self.calls}/{replica.server}.hosts"

    @property
    def credentials(self) -> str:
        """The socket on which systemd asks flyted for credentials."""
        return f"{self.run}/credentials.sock"


LAYOUT = Layout()
