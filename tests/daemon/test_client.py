"""What a client of the control socket does while no daemon answers."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from flyted.contract import client, wire
from flyted.contract.errors import DaemonUnavailable

pytestmark = pytest.mark.slow


def test_no_daemon_is_said_with_what_to_type(tmp_path: Path) -> None:
    """Not a bare errno."""
    with pytest.raises(DaemonUnavailable, match="does not answer") as caught:
        client.call("version", path=tmp_path / "none")
    assert "systemctl start" in caught.value.hint


@pytest.mark.parametrize(
    ("facts", "away"),
    [({}, False), ({"ActiveState": "active", "SubState": "running", "Job": ""}, False),
     ({"ActiveState": "inactive", "SubState": "dead"}, True),
     ({"ActiveState": "inactive", "SubState": "dead", "Job": "0"}, True),
     ({"ActiveState": "inactive", "SubState": "dead", "Job": "15958"}, False)],
)  # fmt: skip
def test_a_daemon_for_which_systemd_has_a_job_is_waited_for(facts: dict[str, str], *, away: bool) -> None:
    """Its start may wait for flyted-setup.service; nothing is concluded where systemd says nothing."""
    assert client._is_away(facts) is away


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_daemon_that_was_killed_just_now_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, comes_back: bool
) -> None:
    """systemd starts it within a second; only one that stays away is given up."""
    alive = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running"}
    dead = {**alive, "ActiveState": "inactive", "SubState": "dead"}
    looks: list[dict[str, str]] = []

    def facts() -> dict[str, str]:
        looks.append(alive if looks and comes_back else dead)
        return looks[-1]

    monkeypatch.setattr(client, "_facts", facts)
    monkeypatch.setattr(client, "FIRST_SILENCE_S", 0.1)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def answer() -> None:
            conn, _ = listener.accept()
            with conn:
                while len(looks) < 2:
                    time.sleep(0.01)
                if comes_back:
                    conn.sendall(wire.encode({"result": {"back": True}}))

        thread = threading.Thread(target=answer)
        thread.start()
        if comes_back:
            assert client.call("version", path=tmp_path / "s") == {"back": True}
        else:
            with pytest.raises(DaemonUnavailable, match=r"inactive \(dead\)"):
                client.call("version", path=tmp_path / "s")
        thread.join()
    assert len(looks) == 2
