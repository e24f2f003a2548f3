"""Runs Flyte's own command many times in forks of one Python that has loaded what the SDK needs.

Its start takes seconds, nearly all of them for these imports. A fork imports the SDK itself and runs the command as
its program does. Standard input has a list of arguments in each line, as JSON; the answer is a line with the exit
status and what was printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIMIT_S = 300


class Warm:
    """The command, as alice runs it in the folder of a desk."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, *words: str) -> tuple[int, str]:
        """Run ``flyte WORDS``; return its exit status and what it printed, without the frames of boxes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        status, said = json.loads(self._process.stdout.readline())
        return status, " ".join(said.replace("│", " ").split())

    def works(self, *words: str) -> str:
        """Return what a command printed that must work."""
        status, said = self.run(*words)
        assert status == 0, f"{words}: {status}\n{said}"
        return said

    def refused(self, *words: str) -> str:
        """Return what a command printed that must fail, in one sentence and not in a traceback."""
        status, said = self.run(*words)
        assert status in (1, 2), f"{words}: {status}\n{said}"
        assert "Traceback" not in said
        return said


@contextmanager
def warm(folder: Path, place: Path) -> Iterator[Warm]:
    """Have the command of the environment ``place`` run in alice's ``folder``."""
    from tests.machine.kit.users import becoming, environment

    login = {**environment("alice"), "DO_NOT_TRACK": "1", "COLUMNS": "1000", "NO_COLOR": "1"}
    login["PATH"] = f"{place}/bin:{login['PATH']}"
    with subprocess.Popen(
        [*becoming("alice"), str(place / "bin/python"), __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, cwd=folder, env=login,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Warm(process)
        assert process.stdin is not None
        process.stdin.close()


def server() -> None:
    import threading

    here = sys.path[0]
    sys.path[0] = __file__.rpartition("/machine/")[0]
    from sdk_modules import load  # type: ignore[import-not-found]

    sys.path.remove(sys.path[0])
    assert here not in sys.path
    load(("flyte.cli.main",))
    assert threading.active_count() == 1, "a fork would lack these threads"
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_forked(json.loads(line))), flush=True)


def _forked(words: list[str]) -> tuple[int, str]:
    import signal
    import tempfile

    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            signal.alarm(LIMIT_S)
            _become(words, output.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        return status, output.read()


def _become(words: list[str], output: int) -> None:
    """Be ``flyte``, and end without Python's own clearing up (``companion_sdk.ABORTED``)."""
    null = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((null, output, output)):
        os.dup2(descriptor, number)
    sys.argv = ["flyte", *words]
    status = 70
    try:
        from flyte.cli.main import main

        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    server()
