"""A headless Chromium of alice's, told what to do over a pipe (Chrome DevTools Protocol)."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.machine.kit.users import alice, becoming, environment

PROFILE = "/home/alice/chromium-told"


class Chromium:
    """One page. ``commands``, ``answers``: the ends of the pipes, on which each message ends with a NUL."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers, self._left, self._number, self._session = commands, answers, b"", 0, ""
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def do(self, method: str, **params: Any) -> dict[str, Any]:
        """What a command answers; events in between are passed over."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (said := self._read()).get("id") != self._number:
            pass
        return dict(said.get("result", {}))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            more = os.read(self._answers, 65536)
            assert more, "Chromium has ended"
            self._left += more
        message, _, self._left = self._left.partition(b"\0")
        return dict(json.loads(message))

    def go(self, url: str) -> None:
        """Begin a visit, as if a person had typed the address."""
        self._number += 1
        message = {"id": self._number, "method": "Page.navigate", "params": {"url": url, "transitionType": "typed"}}
        os.write(self._commands, json.dumps({**message, "sessionId": self._session}).encode() + b"\0")

    def text(self) -> str:
        """What the page shows now; "" if it is just being replaced."""
        found = self.do("Runtime.evaluate", expression="document.body ? document.body.innerText : ''")
        return str(found.get("result", {}).get("value") or "")


def _pipe() -> tuple[int, int]:
    """A pipe whose ends have other numbers than those that Chromium wants."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]


@contextmanager
def chromium() -> Iterator[Chromium]:
    """It trusts the apps if alice's profiles do; its own profile is a new one."""
    alice("rm", "-rf", PROFILE)
    (read, commands), (answers, write) = _pipe(), _pipe()
    words = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-pipe",
        f"--user-data-dir={PROFILE}",
    ]
    # Chromium reads its commands at 3 and answers at 4
    script = f"exec 3<&{read} 4>&{write} {read}<&- {write}>&-; exec chromium {' '.join(words)}"
    process = subprocess.Popen(
        [*becoming("alice"), "bash", "-c", script], pass_fds=(read, write), cwd=Path(PROFILE).parent,
        env=environment("alice"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(read)
    os.close(write)
    try:
        yield Chromium(commands, answers)
    finally:
        os.close(commands)
        os.close(answers)
        process.terminate()
        process.wait()
        alice("rm", "-rf", PROFILE)
