"""Who sits at the machine: alice, an ordinary user who may use sudo, and mallory, who may nothing."""

from __future__ import annotations

import atexit
import functools
import grp
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[3] / "examples"
TRUSTED = Path("/usr/local/share/ca-certificates/flyted.crt")  # what `ca install` writes
AUTHORITY = Path("/run/flyted/ca.pem")
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

Done = subprocess.CompletedProcess[str]
_WARM = threading.Lock()


def environment(user: str) -> dict[str, str]:
    """What a login gives."""
    home = pwd.getpwnam(user).pw_dir
    return {"HOME": home, "USER": user, "LOGNAME": user, "PATH": PATH, "LANG": "C.UTF-8", "TERM": "dumb"}


def becoming(user: str) -> list[str]:
    """The start of a command line that runs as ``user``. Not runuser(1): PAM writes the rest into the journal."""
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"]


def by(user: str, *words: str, typed: str = "", seconds: float = 300) -> Done:
    """Runs a command as ``user``, in the user's home, with the groups that the user has now."""
    return subprocess.run(
        [*becoming(user), *words], input=typed, capture_output=True, text=True, check=False, timeout=seconds,
        cwd=pwd.getpwnam(user).pw_dir, env=environment(user),
    )  # fmt: skip


def alice(*words: str, typed: str = "") -> Done:
    """Alice's command; it must work."""
    done = by("alice", *words, typed=typed)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def answer(*words: str) -> Any:
    """What ``flytectl … --json`` says to alice."""
    return json.loads(alice("flytectl", *words, "--json").stdout)


def refused(*words: str, status: int, user: str = "alice", typed: str = "") -> str:
    """What a command says that must fail: one message of ours, a hint, no traceback; nothing on standard output.

    Where the user's own file failed (3) the hint may be the user's own traceback.
    """
    done = by(user, *words, typed=typed)
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stdout == ""
    assert len(re.findall(r"^flytectl: ", done.stderr, re.MULTILINE)) == 1, done.stderr
    own = status == 3 and "/home/" in done.stderr
    assert own or re.search(r"^  hint: \S", done.stderr, re.MULTILINE), done.stderr
    assert "/usr/lib/flyted/flyte" not in done.stderr, done.stderr
    return done.stderr


def join_group() -> None:
    """Add alice to the group, the step that the package cannot take for anybody."""
    alice("sudo", "adduser", "alice", "flyted")


def may_serve() -> None:
    """Take alice's first steps unless they are taken: she may use flyted, and her programs trust its certificates."""
    if "alice" not in grp.getgrnam("flyted").gr_mem:
        join_group()
    if not TRUSTED.exists() or TRUSTED.read_text().strip() != AUTHORITY.read_text().strip():
        alice("sudo", "flytectl", "ca", "install")


def forget_apps(prefix: str) -> None:
    """Delete the apps of the default scope whose names start with ``prefix``, and their data."""
    delete_apps(app["name"] for app in answer("app", "ls")["apps"] if app["name"].startswith(prefix))


def delete_apps(names: Iterable[str]) -> None:
    """Delete apps of the default scope, and their data, several at a time: each waits for its units to stop."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: alice("flytectl", "app", "delete", "--yes", "--data", name), names))


def forget_secrets(*keys: str, scope: tuple[str, ...] = ()) -> None:
    """Delete secrets, of the whole machine unless ``scope`` is given; those that are not there are passed over."""
    for key in keys:
        by("alice", "flytectl", "secret", "delete", "--yes", key, *scope)


def forget_tokens(*names: str) -> None:
    """Revoke tokens of alice's by name; those that are not there are passed over."""
    for name in names:
        by("alice", "flytectl", "token", "revoke", name)


def serve(file: str, *flags: str) -> str:
    """Serve a file of alice's; its app's URL. The file is imported by a Python that has loaded what the SDK needs."""
    chosen = any(flag.startswith(("--python", "--as")) for flag in flags)
    script = "# /// script" in Path(pwd.getpwnam("alice").pw_dir, file).read_text(errors="replace")
    python = () if chosen or script else ("--python", warm_python())
    return alice("flytectl", "serve", "-q", *python, *flags, file).stdout.strip()


def serving(*more: str) -> tuple[str, ...]:
    """Return the command that serves a file in the same way, for a test of what it says or of how it ends."""
    return ("flytectl", "serve", "--python", warm_python(), *more)


def warm_python() -> str:
    """Return the program of alice's Python that has loaded what the SDK needs; the first call starts it."""
    with _WARM:
        return _warmed()


@functools.cache
def _warmed() -> str:
    """Start alice's Python with what the SDK needs, once, for as long as these tests run; its program."""
    program = str(Path(__file__).with_name("warm_python.py"))
    server = subprocess.Popen(
        [*becoming("alice"), program, "--server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/",
        env=environment("alice") | {"DO_NOT_TRACK": "1"}, start_new_session=True,
    )  # fmt: skip
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    atexit.register(server.communicate)  # at the end of its standard input it ends
    return program


def curl(url: str, *options: str) -> tuple[int, str]:
    """Status and body, by alice's curl with the system's trusted certificates."""
    done = alice("curl", "-sS", "--max-time", "60", "-w", "\n%{http_code}", *options, url)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def give(name: str, text: str | None = None) -> str:
    """A file in alice's home, hers: an example of the project, or one with ``text``. Its name."""
    home = Path(pwd.getpwnam("alice").pw_dir)
    target = home / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        shutil.copyfile(EXAMPLES / name, target)
    else:
        target.write_text(text)
    for path in (target, *[p for p in target.parents if home in p.parents]):
        shutil.chown(path, "alice", "alice")
    return name


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A command of alice's that goes on, both its streams in one; ended with Ctrl-C."""
    with subprocess.Popen(
        [*becoming("alice"), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd="/home/alice", env=environment("alice"), start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):  # it may have ended by itself
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(60)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def lines_of(process: subprocess.Popen[str]) -> list[str]:
    """The lines that a command writes; the list grows while it does."""
    seen: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            seen.append(line)  # noqa: PERF402  one by one, as they come

    threading.Thread(target=read, daemon=True).start()
    return seen


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that has no event to wait for; fail when it does not come, on however busy a machine."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def everything() -> dict[str, Any]:
    """What a refused command must leave as it was: apps, secrets, units, and the files that hold them.

    Not whether an app sleeps, not the code bundles (one that no revision names is swept at the next change), not uv's
    own notes, and not the unit that removes unused images, which runs by itself.
    """
    units = subprocess.run(
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", "flyted-app-*", "flyted-build-*"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    apps = answer("app", "ls", "--all")["apps"]
    for app in apps:
        for changes_by_itself in ("requests", "reason", "units", "replicas"):
            app.pop(changes_by_itself)
        if app["state"] in ("stopping", "sleeping"):  # it falls asleep by itself
            app["state"] = "running"
    return {
        "apps": apps,
        "secrets": answer("secret", "ls", "--all"),
        "units": sorted({line.split()[0] for line in units.stdout.splitlines()} - {"flyted-build-removal.service"}),
        "files": sorted(str(p) for d in ("secrets", "images") for p in Path("/var/lib/flyted", d).glob("[!.]*")),
    }
