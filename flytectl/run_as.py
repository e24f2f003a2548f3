"""Runs programs as a user, apart from root's terminal.

A process in a terminal's session may type into that terminal (ioctl_tty(2): TIOCSTI), and a process with a descriptor
of the terminal may read what is typed there. So a program that root starts as another user gets a session of its own
(setsid(2)) and pipes. Its output is copied with control characters made visible, and a signal that ends flytectl ends
its process group too.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import selectors
import signal
import subprocess
import sys
from typing import IO, TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from flytectl.identity import Identity

STOP_TIMEOUT_S = 2.0  # seconds that the program may take to end after each signal
FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)  # for SIGINT Python itself raises KeyboardInterrupt
_AT_ONCE = 65536
_LEFT = 2**20  # bytes that a pipe of an unprivileged user holds at most (pipe(7): pipe-max-size)


class _Ended(BaseException):
    """An interruption: one of the signals in FORWARDED arrived."""

    def __init__(self, number: int) -> None:
        self.number = number


def run(
    command: Sequence[str],
    identity: Identity | None,
    environ: Mapping[str, str],
    *,
    pass_fds: tuple[int, ...] = (),
    capture: bool = False,
    quiet: bool = False,
    cwd: str | None = None,
) -> tuple[int, bytes]:
    """Run ``command`` as ``identity``, or as the caller; return its exit status and captured output.

    With ``capture`` the standard output is returned, else it goes to flytectl's standard error, as the program's
    errors do. ``quiet`` drops the errors. Processes that the program leaves behind are not waited for. Raise OSError
    if the program cannot be started.
    """
    errors = None if identity is None else subprocess.PIPE if capture else subprocess.STDOUT
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if capture or identity else 2,
        stderr=subprocess.DEVNULL if quiet else errors,
        env=dict(environ),
        cwd=cwd,
        pass_fds=pass_fds,
        **(identity.drop() if identity else {}),
    )
    group = process.pid if identity else None
    try:
        with _signals_raise(enabled=identity is not None):
            return _wait(process, capture=capture)
    except BaseException as why:
        _end(process, group, why)
        if isinstance(why, _Ended):
            _end_ourselves(why.number)
        raise
    finally:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _wait(process: subprocess.Popen[bytes], *, capture: bool) -> tuple[int, bytes]:
    """Read the program's pipes until it has ended; return its exit status and captured output."""
    kept: list[bytes] = []
    with selectors.DefaultSelector() as selector, _pidfd(process.pid) as ended:
        selector.register(ended, selectors.EVENT_READ)
        for pipe, take in _takers(process, kept, capture=capture):
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, take)
        while True:
            ready = [key for key, _ in selector.select()]
            over = any(key.data is None for key in ready)
            for key in list(selector.get_map().values()) if over else ready:
                if key.data is not None and not _read(key.fd, key.data, _LEFT if over else _AT_ONCE):
                    selector.unregister(key.fileobj)
            if over:
                return process.wait(), b"".join(kept)


def _takers(
    process: subprocess.Popen[bytes], kept: list[bytes], *, capture: bool
) -> Iterator[tuple[IO[bytes], Callable[[bytes], object]]]:
    if process.stdout is not None:
        yield process.stdout, kept.append if capture else _Shown().write
    if process.stderr is not None:
        yield process.stderr, _Shown().write


def _read(fd: int, take: Callable[[bytes], object], limit: int) -> bool:
    """Read the available bytes, about ``limit`` at most; report whether more may come later."""
    while limit > 0:
        try:
            chunk = os.read(fd, _AT_ONCE)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        take(chunk)
        limit -= len(chunk)
    return True


class _Shown:
    """A writer of a program's output to our standard error, with control characters made visible."""

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)

    def write(self, chunk: bytes) -> None:
        from flytectl.render import safe_lines  # noqa: PLC0415  only for root who becomes a user

        sys.stderr.write(safe_lines(self._decoder.decode(chunk)))
        sys.stderr.flush()


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    """Yield a descriptor that becomes readable when the process ends."""
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _signals_raise(*, enabled: bool) -> Iterator[None]:
    """Turn the signals that would end flytectl, and leave the program behind, into exceptions."""

    def stop(number: int, _frame: object) -> NoReturn:
        raise _Ended(number)

    ours = [number for number in FORWARDED if enabled and signal.getsignal(number) != signal.SIG_IGN]  # nohup(1)
    before = {number: signal.signal(number, stop) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(process: subprocess.Popen[bytes], group: int | None, why: BaseException) -> None:
    """End the program and its process group: by SIGINT after Ctrl-C, else SIGTERM, and by SIGKILL if it stays."""
    first = signal.SIGINT if isinstance(why, KeyboardInterrupt) else signal.SIGTERM
    arrived = group is None and first is signal.SIGINT  # the terminal that we share has sent it to the program too
    for number in (None if arrived else first, signal.SIGTERM, signal.SIGKILL):
        if number is not None and process.poll() is None:
            os.killpg(group, number) if group else process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
            return


def _end_ourselves(number: int) -> None:
    """End by the signal's default action, so that the sender sees its effect in the exit status."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
