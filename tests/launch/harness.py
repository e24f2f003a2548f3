"""Runs launch as an ordinary process, as its unit would: a listening socket as fd 3, credentials, a notify socket."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyted.plan.command import options as handed_on

ROOT = Path(__file__).parent.parent.parent
LAUNCH = ROOT / "flyted" / "launch"
APPS = ROOT / "tests" / "apps" / "launch"
START_S = 30.0
_ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


def bundle(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Packs files as Flyte's SDK does; the name is the SHA-256, as flyted stores it."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    path = folder / f"{hashlib.sha256(buffer.getvalue()).hexdigest()}.tar.gz"
    path.write_bytes(buffer.getvalue())
    return path


def app_bundle(folder: Path, *names: str) -> Path:
    """Packs apps of tests/apps/launch."""
    return bundle(folder, {name: (APPS / name).read_bytes() for name in names})


def fserve(target: str, *, args: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> list[str]:
    """The container command as the SDK makes it (flyte/app/_app_environment.py container_cmd)."""
    return [
        *("fserve", "--version", "abc", "--project", "default", "--domain", "development", "--org", ""),
        *("--image-cache", "H4sIAAAA", "--tgz", "/x/fast1.tar.gz", "--dest", "."),
        *options,
        *("--raw-data-path", "{{.rawOutputDataPrefix}}"),
        *("--resolver", "flyte._internal.resolvers.app_env.AppEnvResolver", "--resolver-args", target),
        *("--", *args),
    ]


@dataclass
class Unit:
    """What systemd prepares for one app, below one folder."""

    folder: Path
    secrets: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # id → ("env:NAME" | "file:NAME", value)
    variables: dict[str, str] = field(default_factory=dict)
    python: str = os.environ.get("FLYTED_LAUNCH_PYTHON", sys.executable)

    def __post_init__(self) -> None:
        """Makes the folders, the listener and the notify socket."""
        for name in ("cache", "state", "credentials", "files"):
            (self.folder / name).mkdir(exist_ok=True)
        self.path = self.folder / "app.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(4096)
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(str(self.folder / "notify.sock"))
        self.notices.settimeout(START_S)

    def options(self, code: Path | None) -> list[str]:
        """Launch's options; writes the credentials as systemd would."""
        sums = {}
        words = ["--app", "demo", *(("--bundle", str(code)) if code else ())]
        for name, (target, value) in self.secrets.items():
            (self.folder / "credentials" / name).write_bytes(value)
            sums[name] = [len(value), hashlib.sha256(value).hexdigest()]
            words += ["--secret", f"{name}={target}"]
            if target.startswith("file:"):
                (self.folder / "files" / target[5:]).write_bytes(value)
        if self.secrets:
            (self.folder / "credentials" / "sums").write_text(json.dumps(sums))
            words += ["--sums", "sums", "--secret-files", str(self.folder / "files")]
        return words

    def environ(self) -> dict[str, str]:
        """The variables of a unit; HOME as DynamicUser= has it."""
        return {
            "HOME": "/",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "DO_NOT_TRACK": "1",
            "CACHE_DIRECTORY": f"{self.folder}/cache:{self.folder}/cache/revision",
            "STATE_DIRECTORY": str(self.folder / "state"),
            "CREDENTIALS_DIRECTORY": str(self.folder / "credentials"),
            "NOTIFY_SOCKET": str(self.folder / "notify.sock"),
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "demo.socket",
            **self.variables,
        }

    def start(self, code: Path | None, command: list[str], *, options: list[str] | None = None) -> App:
        """Starts launch; returns at once."""
        words = self.options(code) if options is None else options
        launch = [self.python, "-I", str(LAUNCH), *words, *handed_on(command)]
        process = subprocess.Popen(
            [sys.executable, "-c", _ACTIVATE, str(self.listener.fileno()), *launch],
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[self.listener.fileno()],
            text=True,
            start_new_session=True,
        )
        return App(self, process)

    def start_on(self, port: int, code: Path, command: list[str], *options: str, of: str = "--port") -> App:
        """Starts launch for a program that listens on ``port``, or for a server function that may (``of``)."""
        return self.start(code, command, options=[*self.options(code), of, str(port), *options])

    def notice(self) -> str:
        """What systemd hears next, but for progress."""
        while (said := self.notices.recv(4096).decode()).startswith("STATUS=loading"):
            pass
        return said

    def close(self) -> None:
        """Closes what systemd would hold."""
        self.listener.close()
        self.notices.close()


class App:
    """One process of launch."""

    def __init__(self, unit: Unit, process: subprocess.Popen[str]) -> None:
        self.unit, self.process = unit, process
        self.out, self.err = "", ""
        self._changed = threading.Condition()
        self._readers = [threading.Thread(target=self._collect, args=(name,)) for name in ("out", "err")]
        for reader in self._readers:
            reader.start()

    def _collect(self, name: str) -> None:
        stream = self.process.stdout if name == "out" else self.process.stderr
        assert stream is not None
        for line in stream:
            with self._changed:
                setattr(self, name, getattr(self, name) + line)
                self._changed.notify_all()

    def until(self, words: str) -> App:
        """Waits until the app has written ``words`` to stdout."""
        with self._changed:
            assert self._changed.wait_for(lambda: words in self.out, START_S), (self.out, self.err)
        return self

    def ready(self) -> App:
        """Waits for READY=1."""
        watcher = threading.Thread(target=self._wake_at_exit, daemon=True)
        watcher.start()
        notice = self.unit.notice()
        assert notice.startswith("READY=1\n"), (notice, self.out, self.err)
        return self

    def ready_for_who_came_early(self) -> None:
        """Wait for READY=1; a request that came before it is answered then, and so is one that comes after it."""
        early: list[int] = []
        asked = threading.Thread(target=lambda: early.append(self.get("/early")[0]))
        asked.start()
        self.ready()
        assert self.get("/x")[1].endswith(" /x")
        asked.join(START_S)
        assert early == [200]

    def _wake_at_exit(self) -> None:
        self.process.wait()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, contextlib.suppress(OSError):
            channel.sendto(b"EXITED", str(self.unit.folder / "notify.sock"))

    def get(self, path: str = "/", headers: dict[str, str] | None = None) -> tuple[int, str]:
        """One request over the unit's socket."""
        connection = http.client.HTTPConnection("demo.apps.localhost", timeout=START_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(START_S)
        connection.sock.connect(str(self.unit.path))
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body

    def json(self, path: str = "/", headers: dict[str, str] | None = None) -> dict[str, Any]:
        """The answer as JSON."""
        return dict(json.loads(self.get(path, headers)[1]))

    def stop(self) -> int:
        """``systemctl stop``: SIGTERM, then wait."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Waits for the end and for all output; returns the exit status, negative for a signal."""
        status = self.process.wait(START_S)
        for reader in self._readers:
            reader.join(START_S)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return status

    def kill(self) -> None:
        """Ends what a test has left, and closes its output."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # systemd would: all of the unit
        self.wait()
