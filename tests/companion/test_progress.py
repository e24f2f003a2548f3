"""The lines during a deployment, from the SDK's own protobuf messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from flyted.companion import progress

definition = pytest.importorskip("flyteidl2.app.app_definition_pb2")
payload = pytest.importorskip("flyteidl2.app.app_payload_pb2")


class Gone(Exception):
    """An error as connectrpc's: with a code that has a name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.code = type("Code", (), {"name": name})


def app(*conditions: tuple[str, str]) -> Any:
    """An app with these conditions, the last one being its state."""
    made = definition.App()
    made.metadata.id.name = "api"
    for state, message in conditions:
        status = definition.Status.DeploymentStatus.Value(f"DEPLOYMENT_STATUS_{state}")
        made.status.conditions.add(deployment_status=status, message=message)
    return made


def run(first: Any, *streams: list[Any]) -> Any:
    """``until_served`` with streams that yield apps, raise errors, and end."""
    left: Iterator[list[Any]] = iter(streams)

    async def watch() -> AsyncIterator[Any]:
        for step in next(left, []):
            if isinstance(step, Exception):
                raise step
            yield payload.WatchResponse(update_event=payload.UpdateEvent(updated_app=step))

    return asyncio.run(progress.until_served(first, watch))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PAUSE_S", 0)


PENDING = ("PENDING", "App is pending deployment")
STARTED = ("STARTED", "Service is ready")


def test_the_lines_are_those_of_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    """Each state once, in Flyte's words, on standard error."""
    progress.deploying("api")
    progress.console("https://flyted.localhost/v2/x")
    run(app(PENDING), [app(PENDING), app(PENDING, STARTED)])
    progress.endpoint("https://api.apps.localhost")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "✨ Deploying Application: api",
        "🔎 Console URL: https://flyted.localhost/v2/x",
        "[Status] Pending: App is pending deployment",
        "[Status] Started: Service is ready",
        "🚀 Deployed Endpoint: https://api.apps.localhost",
    ]


def test_active_is_served_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    """Both states mean that the app answers, and nothing is asked when it does already."""
    assert run(app(("ACTIVE", "Service is ready"))).metadata.id.name == "api"
    assert capsys.readouterr().err == "[Status] Started: Service is ready\n"


def test_the_last_condition_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """Of an app that ran before, the old state is no news."""
    run(app(STARTED, PENDING), [app(STARTED, PENDING, ("SCALING_UP", "one"), ("DEPLOYING", "two")), app(STARTED)])
    assert capsys.readouterr().err.splitlines() == [
        "[Status] Pending: App is pending deployment",
        "[Status] Deploying: two",
        "[Status] Started: Service is ready",
    ]


@pytest.mark.parametrize("state", ["FAILED", "STOPPED", "UNASSIGNED"])
def test_a_failure_says_why(state: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The SDK's own sentence, and the message of the last condition."""
    with pytest.raises(RuntimeError, match="App deployment for app api has failed! KeyError: 'X'"):
        run(app(PENDING), [app(PENDING, (state, "KeyError: 'X'"))])
    assert f"[Status] {state.capitalize()}: KeyError: 'X'" in capsys.readouterr().err


def test_a_stream_that_ends_is_opened_again() -> None:
    """Streams are bounded, and a gateway may be restarted in between."""
    assert run(app(PENDING), [], [Gone("UNAVAILABLE")], [app(PENDING), ConnectionError()], [app(STARTED)])


def test_it_does_not_wait_for_ever() -> None:
    """A gateway that is gone for good is told after a while."""
    with pytest.raises(Gone, match="UNAVAILABLE"):
        run(app(PENDING), *[[Gone("UNAVAILABLE")]] * 100)


def test_an_answer_is_not_asked_again() -> None:
    """What no repetition changes is told at once."""
    with pytest.raises(Gone, match="NOT_FOUND"):
        run(app(PENDING), [Gone("NOT_FOUND")], [app(STARTED)])


def test_control_characters_of_a_message_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """An app's own words do not reach the terminal as commands."""
    run(app(("PENDING", "\x1b]0;owned\x07")), [app(STARTED)])
    assert "\x1b" not in capsys.readouterr().err


def test_the_endpoint_comes_last(capsys: pytest.CaptureFixture[str]) -> None:
    """In a command it waits for the command's own words, and is then the answer on standard output."""
    with progress.endpoints_last(answer=True):
        progress.endpoint("https://a")
        print("panel")
    assert capsys.readouterr() == ("panel\n🚀 Deployed Endpoint: https://a\n", "")


def test_no_endpoint_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Another app failed: the last words are those of the error."""
    with pytest.raises(RuntimeError), progress.endpoints_last(answer=True):
        progress.endpoint("https://a")
        raise RuntimeError
    assert capsys.readouterr() == ("", "")
