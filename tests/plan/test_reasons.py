"""Why an app did not start, in one sentence that cannot harm a terminal."""

from __future__ import annotations

import pytest

from flyted.contract.answers.events import LogLine
from flyted.launch.network import NOT_THERE
from flyted.net.veth import ROUTER
from flyted.plan.reasons import clean, crash_of, failure, lacks_network, network_reason, reason_of


def systemd(text: str) -> LogLine:
    """A line that PID 1 wrote about the unit."""
    return LogLine(time=0, revision=1, source="systemd", text=text)


def own(text: str) -> LogLine:
    """A line of the app's."""
    return LogLine(time=0, revision=1, source="app", text=text)


@pytest.mark.parametrize(
    ("reason", "path"),
    [
        ('mkdir() "/var/cache/nginx/client_temp" failed (30: Read-only file system)', "/var/cache/nginx/client_temp"),
        ("OSError: [Errno 30] Read-only file system: '/data'", "/data"),
        ("Error: EROFS: read-only file system, open '/app/x.json'", "/app/x.json"),
        ("/bin/sh: can't create /srv/x: Read-only file system", "/srv/x"),
        ("OSError: [Errno 30] Read-only file system: '/a/b' -> '/c' (first: RuntimeError: x/y)", "/a/b"),
        ("could not write: Read-only file system", "others"),
    ],
)
def test_what_an_app_cannot_write_to_is_named_with_what_it_can(reason: str, path: str) -> None:
    """As nginx, Python, Node and a shell put it; any other reason leads to the log."""
    why = f"it exited with status 1 during its start: {reason}"
    failed = failure("revision 1 of app 'a' did not start", why, "a")
    assert failed.message == f"revision 1 of app 'a' did not start: {why}"
    assert f"the VOLUMEs of its image: use one of them in place of {path} (flytectl(1), DATA)" in failed.hint
    assert failed.hint.endswith("; flytectl logs a")
    assert failure("app 'a' did not start", "it exited with status 1", "a").hint == "flytectl logs a"


def test_a_network_that_cannot_be_made_is_the_reason() -> None:
    """The app's own code was not even started; the network's own last word says why, and there is a way without."""
    refused = own(f"flyted: the app cannot start: {NOT_THERE}")
    assert lacks_network([systemd("Starting a"), refused, systemd(EXITED.format("75/TEMPFAIL"))])
    assert not lacks_network([systemd("Starting a"), systemd("Started a"), own(NOT_THERE)])
    cable = own(f"flyted-net: {ROUTER} is not running")
    said = network_reason([own("no tap"), systemd("flyted-net.service: Failed with result 'exit-code'."), cable])
    assert "no tap" in said
    assert "--no-egress" in said
    assert "Failed to locate" in network_reason([systemd("Failed to locate executable /usr/bin/pasta")])
    assert "journalctl" in network_reason([])


EXITED = "flyted-app-a-r1-0.service: Main process exited, code=exited, status={}"
ENDED = "flyted: the program exited with status 1 and never listened"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            [own("ImportError: no x"), systemd(EXITED.format("1/FAILURE"))],
            "status 1 during its start: ImportError: no x",
        ),
        (
            [own("No such file: 'x.py'"), own(ENDED), systemd(EXITED.format("1/FAILURE"))],
            "during its start: No such file: 'x.py'; the program exited with status 1 and never listened",
        ),
        (
            [own("flyted: its port is taken"), own(ENDED), systemd(EXITED.format("1/FAILURE"))],
            "during its start: its port is taken; the program exited with status 1 and never listened",
        ),
        ([systemd("u: Failed with result 'timeout'.")], "was not ready within 300 s"),
        ([systemd("u: Failed with result 'protocol'.")], "exited without an error"),
        ([systemd("u: Failed with result 'oom-kill'.")], "exceeded its memory limit"),
        ([systemd("u: Main process exited, code=killed, status=9/KILL")], "signal KILL"),
        ([systemd(EXITED.format("243/CREDENTIALS"))], "secrets could not be passed to it"),
        ([systemd(EXITED.format("0/SUCCESS"))], "exited before it was ready"),
        ([], "systemd could not start it"),
    ],
)
def test_reasons(lines: list[LogLine], words: str) -> None:
    """Each of systemd's results has words of its own."""
    assert words in reason_of(lines, 300)


def test_the_newest_run_counts() -> None:
    """An earlier failure in the same journal is not today's reason."""
    lines = [systemd(EXITED.format("1/FAILURE")), systemd(EXITED.format("78/CONFIG")), own("secret 'K' is missing")]
    assert reason_of(lines, 300) == "it cannot start: secret 'K' is missing"


def test_a_crash_later_on_is_not_one_at_the_start() -> None:
    """The app had served: that it came up is no reason, and is not quoted as one."""
    lines = [own("INFO:     Application startup complete."), systemd(EXITED.format("3/NOTIMPLEMENTED"))]
    assert reason_of(lines, 300, started=True) == "it exited with status 3 after its start"
    assert reason_of([systemd("u: Failed with result 'timeout'.")], 300, started=True).startswith("systemd")


def test_what_was_ended_from_outside_is_told_by_where_it_was() -> None:
    """An error that it printed and lived with is not why it was ended."""
    lines = [
        own("error: no cache, going on"),
        own("INFO: loading shard 3 of 9"),
        systemd("u: Failed with result 'timeout'."),
    ]
    assert reason_of(lines, 300) == "it was not ready within 300 s: INFO: loading shard 3 of 9"


def test_an_apps_words_are_cleaned_and_bounded() -> None:
    """No escape sequence, no second line, no book."""
    text = clean("\x1b]0;x\x07\nSet-Cookie: a\u2028" + "y" * 1000)
    assert text.isprintable()
    assert len(text) <= 300


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            ("Main process exited, code=killed, status=9/KILL", "Failed with result 'oom-kill'."),
            "its memory limit",
        ),
        (
            ("Main process exited, code=exited, status=7/NOTRUNNING", "Failed with result 'exit-code'."),
            "with status 7",
        ),
        (("Main process exited, code=dumped, status=11/SEGV", "Failed with result 'core-dump'."), "by signal SEGV"),
        (("Deactivated successfully.",), ""),
        (
            (
                "Stopping it...",
                "Main process exited, code=exited, status=1/FAILURE",
                "Failed with result 'exit-code'.",
            ),
            "",
        ),
        (("Stopping it...", "State 'stop-sigterm' timed out. Killing.", "Failed with result 'timeout'."), ""),
        ((), ""),
    ],
)
def test_a_crash_is_told_and_a_sleep_is_none(said: tuple[str, ...], words: str) -> None:
    """An app that sleeps because it crashed says so; one that was put to sleep, however hard it went, does not."""
    found = crash_of([systemd("Started a"), own("Failed with result 'mine'"), *map(systemd, said)])
    assert words in found
    assert bool(found) == bool(words)
