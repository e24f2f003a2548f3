"""Text of strangers that the stock `flyte` prints as it is: no character of it moves the cursor."""

from __future__ import annotations

import pytest

from flyted.contract.answers.events import Accepted
from flyted.contract.errors import DeployFailed
from flyted.gateway.errors import connect_error
from flyted.gateway.harmless import harmless
from flyted.gateway.idl import status
from tests.gateway.harness import Running
from tests.gateway.test_logs import event, tail


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("a\u00e9 b", "a\u00e9 b"),
        ("\x1b[2Jgo\ta", " [2Jgo  a"),
        ("a\u202eb\x9bc\u2028", "a b c "),
        ("", ""),
        ("\x1b[1;32mINFO\x1b[0m: \x1b[mx", "INFO: x"),
    ],
)
def test_a_line_keeps_only_what_can_be_printed(line: str, shown: str) -> None:
    """Colours go; a tab becomes blanks, every other control or format character one blank."""
    assert harmless(line) == shown


def test_the_state_and_the_error_of_a_deploy_are_harmless() -> None:
    """They quote builders and apps."""
    said = status.of_deploy(None, Accepted("checked"), "Building \x1b[2Jx", 0.0).conditions[-1].message
    assert said == "Building  [2Jx"
    assert status.of_failure(Accepted("checked"), "one\n\x9btwo", 0.0).conditions[-1].message == "one\n two"
    assert connect_error(DeployFailed("one\n\x1b]0;two", hint="\x07")).message == "one\n ]0;two (hint:  )"


@pytest.mark.slow
def test_the_log_of_an_app_is_harmless(gateway: Running) -> None:
    """A visitor's words may be in it."""
    gateway.flyted.answers("app.logs", event("GET /\x1b[2J"), {"result": {}})
    assert [line.message for line in tail(gateway, 99)] == ["GET / [2J"]
