"""What is said after a connection that an app's network refuses, and that other lines bring nothing on."""

from __future__ import annotations

import pytest

from flyted.launch.bound import Bound
from flyted.launch.closed import LOOPBACK, METADATA, NOT_OWNED, READ_ONLY, Closed
from flyted.plan.last_words import reason_in

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "line",
    [
        b'connection to server at "127.0.0.1", port 5432 failed: Connection refused',
        b"redis.exceptions.ConnectionError: Error 111 connecting to localhost:6379. Connection refused.",
        b"Error: connect ECONNREFUSED ::1:5432",
        b"dial tcp 127.0.0.1:5432: connect: connection refused",
        b"curl: (7) Failed to connect to localhost port 9 after 0 ms: Could not connect to server",
    ],
)
def test_a_refused_loopback_is_explained(line: bytes) -> None:
    """As psycopg, redis, Node, Go and curl put it: once, whatever is printed around it, and not again."""
    closed = Closed()
    assert closed.after(b"starting\n" + line + b"\nbye\n") == LOOPBACK
    assert closed.after(line + b"\n") == b""


def test_a_metadata_service_is_explained() -> None:
    """The call fails with EACCES (flyted/net/plan.py)."""
    closed = Closed()
    assert closed.after(b"Error: connect EACCES 169.254.169.254:80 - Local (0.0.0.0:0)\n") == METADATA
    assert closed.after(b"connect ECONNREFUSED 127.0.0.1:1\n") == LOOPBACK


@pytest.mark.parametrize(
    "line",
    [
        b"OSError: [Errno 30] Read-only file system: '/data'",
        b"mkdir: cannot create directory '/data': Read-only file system",
        b"Error: EROFS: read-only file system, mkdir '/app/cache'",
        b"open /var/lib/x.db: read-only file system",
    ],
)
def test_a_folder_that_is_read_only_is_explained(line: bytes) -> None:
    """As Python, coreutils, Node and Go put it."""
    assert Closed().after(line + b"\n") == READ_ONLY


@pytest.mark.parametrize(
    "line",
    [
        b"chmod: changing permissions of '/var/lib/postgresql/data': Operation not permitted",
        b'initdb: error: could not change permissions of directory "/var/lib/pg/data": Operation not permitted',
        b"chown: changing ownership of '/data': Operation not permitted",
        b"Error: EPERM: operation not permitted, chmod '/data'",
    ],
)
def test_a_folder_that_is_not_the_apps_is_explained(line: bytes) -> None:
    """As coreutils, PostgreSQL and Node put it."""
    assert Closed().after(line + b"\n") == NOT_OWNED


@pytest.mark.parametrize(
    "text",
    [
        b"connecting to localhost:8080\n",
        b"connection refused by db.example.org\n",
        b"listening on 127.0.0.1:8080\n10.0.0.7: connection refused\n",
        b"open('/etc/shadow'): Permission denied\n",
        b"mounted as a read-only file system\n",
        b"connect ECONNREFUSED 127.0.0.1:1",
        b"x" * 100_000 + b"connect ECONNREFUSED 127.0.0.1:1\n",
    ],
)
def test_other_lines_are_not(text: bytes) -> None:
    """A place and a refusal in one line of bearable length, and the line has to be complete."""
    assert Closed().after(text) == b""


def test_it_is_not_taken_for_the_reason() -> None:
    """Why the app ended is its own line before ours."""
    said = [
        "connect ECONNREFUSED 127.0.0.1:5432",
        *(hint.decode().rstrip() for hint in (LOOPBACK, METADATA, NOT_OWNED, READ_ONLY)),
    ]
    assert reason_in(said) == said[0]


def test_it_follows_what_the_app_prints() -> None:
    """Of whichever kind: both ways of an app's output go through the bound."""
    line = b"connect ECONNREFUSED 127.0.0.1:5432\n"
    bound = Bound()
    assert bound.passes(line) == line + LOOPBACK
    assert bound.passes(line) == line
