"""What a user's file can do to the terminal of a root who serves it: nothing.

The attack is TIOCSTI (ioctl_tty(2)), which puts characters into the input of the terminal: root's shell reads them as
typed when flytectl has ended. Newer kernels can refuse it (dev.tty.legacy_tiocsti), so what is tested is what it, and
reading along, take: a terminal that can be opened, or a descriptor of one.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

HOME = Path("/home/alice")
FILE = HOME / "terminal.py"
SEEN = HOME / "seen.json"
TYPED = "touch /root/typed-by-alice"
ATTACK = f"""
import fcntl, json, os, pathlib, termios
seen = {{"tty": "opened", "typed": [], "terminals": [], "leader": os.getsid(0) == os.getpid()}}
try:
    os.open("/dev/tty", os.O_RDWR)
except OSError as error:
    seen["tty"] = error.strerror
for fd in range(20):
    if os.isatty(fd):
        seen["terminals"].append(fd)
    try:
        for char in b"{TYPED}\\n":
            fcntl.ioctl(fd, termios.TIOCSTI, bytes([char]))
        seen["typed"].append(fd)
    except OSError:
        pass
pathlib.Path("{SEEN}").write_text(json.dumps(seen))
print("the file says \\x1b]0;title\\x07 hello")
raise SystemExit("nothing to serve")
"""
HANG = f"import pathlib, time\npathlib.Path('{SEEN}').touch()\nwhile True: time.sleep(60)\n"


class Shell:
    """An interactive shell of root's in a terminal of its own."""

    def __init__(self) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir("/root")
            os.execv("/bin/bash", ["bash", "--norc", "-i"])
        self.text = ""

    def type(self, text: str) -> None:
        """As a person would."""
        os.write(self.terminal, text.encode())

    def until(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        """Waits for a text, and forgets what came before it."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text)):
            ready, _, _ = select.select([self.terminal], [], [], max(0, end - time.monotonic()))
            assert ready, f"no {pattern!r} in {self.text!r}"
            self.text += os.read(self.terminal, 65536).decode(errors="replace")
        self.text = self.text[found.end() :]
        return found

    def close(self) -> None:
        """Ends it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


@pytest.fixture
def shell() -> Iterator[Shell]:
    SEEN.unlink(missing_ok=True)
    made = Shell()
    yield made
    made.close()
    for path in (FILE, SEEN, Path("/root/typed-by-alice")):
        path.unlink(missing_ok=True)


def left_behind() -> str:
    found = subprocess.run(["pgrep", "-u", "alice", "-af", str(FILE)], check=False, capture_output=True, text=True)
    return found.stdout


def test_a_users_file_cannot_reach_roots_terminal(shell: Shell) -> None:
    """No terminal to open, none among its descriptors, nothing typed; what it prints is seen and not obeyed."""
    FILE.write_text(ATTACK)
    shell.type(f"setpriv --reuid=alice --regid=alice --init-groups python3 {FILE}; echo over=$?\n")
    shell.until(r"over=\d")
    assert json.loads(SEEN.read_text())["tty"] == "opened", "the attack itself does not work: this test proves nothing"
    SEEN.unlink()
    shell.type("echo obeyed=$((40 + 2))\n")  # what the kernel let the file type has been read before that
    shell.until("obeyed=42")
    Path("/root/typed-by-alice").unlink(missing_ok=True)

    shell.type(f"flytectl serve --as alice {FILE}; echo over=$?\n")
    said = shell.until(r"(?s)(.*)over=\d")[1]
    seen = {"tty": "No such device or address", "typed": [], "terminals": [], "leader": True}
    assert json.loads(SEEN.read_text()) == seen
    assert r"the file says \x1b]0;title\x07 hello" in said
    shell.type("echo still=here\n")
    shell.until("still=here\r\n")
    assert not Path("/root/typed-by-alice").exists()


@pytest.mark.parametrize("how", ["ctrl-c", "sigterm"])
def test_what_ends_flytectl_ends_the_file(shell: Shell, how: str) -> None:
    """It is in another session, so the terminal does not tell it: flytectl does."""
    FILE.write_text(HANG)
    shell.type(f"flytectl serve --as alice {FILE}; echo over=$?\n")
    for _ in range(600):
        if SEEN.exists():
            break
        time.sleep(0.1)
    assert left_behind()
    if how == "ctrl-c":
        shell.type("\x03")
    else:
        subprocess.run(["pkill", "-TERM", "-u", "root", "-f", f"flytectl serve --as alice {FILE}"], check=True)
    assert shell.until(r"over=(\d+)")[1] == {"ctrl-c": "130", "sigterm": "143"}[how]
    assert not left_behind()
