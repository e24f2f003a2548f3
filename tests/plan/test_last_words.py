"""Which line of an app's says why it ended: as uvicorn, Node, the shell and Python really print."""

from __future__ import annotations

import pytest

from flyted.plan.last_words import last_line, reason_in

UVICORN = """\
INFO:     Started server process [7]
INFO:     Waiting for application startup.
ERROR:    Traceback (most recent call last):
  File "/x/starlette/routing.py", line 693, in lifespan
    async with self.lifespan_context(app) as maybe_state:
  File "/app/main.py", line 9, in lifespan
    raise RuntimeError("no model at /srv/m")
RuntimeError: no model at /srv/m

ERROR:    Application startup failed. Exiting.
"""
NODE = """\
node:internal/modules/cjs/loader:1228
  throw err;
  ^

Error: Cannot find module '/app/server.js'
    at Module._resolveFilename (node:internal/modules/cjs/loader:1225:15)
    at node:internal/main/run_main_module:28:49 {
  code: 'MODULE_NOT_FOUND',
  requireStack: []
}

Node.js v20.19.2
"""
CHAIN = """\
Traceback (most recent call last):
  File "/app/a.py", line 2, in load
    os.environ["URL"]
KeyError: 'URL'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/a.py", line 4, in <module>
    load()
mylib.errors.Unset: set URL to the database's address
"""
HANDLED = """\
Traceback (most recent call last):
  File "/app/a.py", line 2, in cache
    open("/nope")
FileNotFoundError: [Errno 2] No such file or directory: '/nope'
going on without a cache
fatal: port 8080 is taken
"""
GO = """\
panic: runtime error: index out of range [3] with length 3

goroutine 1 [running]:
main.main()
	/src/main.go:8 +0x1d
exit status 2
"""
REFUSED = """\
flyted: the app cannot start: program 'nope' is not in the image
"""


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        (UVICORN, "RuntimeError: no model at /srv/m"),
        (NODE, "Error: Cannot find module '/app/server.js'"),
        (CHAIN, "mylib.errors.Unset: set URL to the database's address (first: KeyError: 'URL')"),
        (HANDLED, "fatal: port 8080 is taken"),
        (GO, "panic: runtime error: index out of range [3] with length 3"),
        (REFUSED, "program 'nope' is not in the image"),
        ("sh: 1: streamlit: not found\n", "sh: 1: streamlit: not found"),
        ("serving on 8080\n", "serving on 8080"),
        ("INFO:     Application startup complete.\n", ""),
        ("", ""),
        ("AssertionError\n", "AssertionError"),
        ("Traceback (most recent call last):\n  File 'a'\nAssertionError\n", "AssertionError"),
    ],
    ids=["uvicorn", "node", "chain", "handled", "go", "refused", "shell", "plain", "info", "nothing", "bare", "short"],
)
def test_the_reason_among_the_last_lines(printed: str, reason: str) -> None:
    """Whatever stands after it."""
    assert reason_in(printed.splitlines()) == reason


def test_a_traceback_that_began_before_the_window_is_told_by_its_end() -> None:
    """Only the last lines are read: its header may be above them."""
    assert reason_in(UVICORN.splitlines()[4:]) == "RuntimeError: no model at /srv/m"


def test_two_failures_in_a_row_are_not_one_chain() -> None:
    """The first exception of another traceback is no cause of this one."""
    both = CHAIN + "retrying\n" + UVICORN
    assert reason_in(both.splitlines()) == "RuntimeError: no model at /srv/m"


def test_the_last_line_is_the_last_that_says_something() -> None:
    """Blank lines are none."""
    assert last_line(["a", " b ", "  ", ""]) == "b"
    assert last_line([]) == ""
