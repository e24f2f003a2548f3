"""Answers: what their classes say is what crosses the socket, and what ``--json`` prints."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from flyted.contract import answers
from flyted.contract.answers.apps import AppList, AppStatus, UnitStatus
from flyted.contract.answers.codec import WIRE_ONLY, Answer, from_wire, json_fields
from flyted.contract.errors import ProtocolMismatch
from flyted.contract.status import AppState
from tests.answers import app_status, sent, whole


def kinds() -> list[type[Answer]]:
    """Every class of answers."""
    for module in pkgutil.iter_modules(answers.__path__):
        importlib.import_module(f"{answers.__name__}.{module.name}")
    return [kind for kind in Answer.__subclasses__() if kind.__module__.startswith(answers.__name__)]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_answer_arrives_as_it_was_sent(kind: type[Answer]) -> None:
    """Its class needs nothing but fields for that; and nobody changes it on the way."""
    answer = whole(kind)
    assert from_wire(kind, sent(answer)) == answer
    for name in (f.name for f in dataclasses.fields(cast("Any", kind))):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(answer, name, None)


def test_what_is_inside_an_answer_arrives_too() -> None:
    """Lists of answers, pairs, texts that are words, and whole numbers where fractions are allowed."""
    one = app_status(
        units=(UnitStatus("a.service", "active", "running"),), links=(("Docs", "/docs"),), open_paths=(),
        state=AppState.SLEEPING,
        cpu_cores=2,
    )  # fmt: skip
    (app,) = from_wire(AppList, sent(AppList((one,)))).apps
    assert app.units == one.units
    assert (app.links, app.open_paths, app.gpu) == ((("Docs", "/docs"),), (), None)
    assert app.state is AppState.SLEEPING
    assert type(app.cpu_cores) is float


def test_fields_of_a_newer_daemon_are_ignored() -> None:
    """And a state that is not known yet is "unknown"."""
    newer = {**sent(app_status()), "colour": "blue", "state": "of tomorrow"}
    assert from_wire(AppStatus, newer) == app_status(state=AppState.UNKNOWN)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"revision": "2"}, "AppStatus.revision: int is expected, not str"),
        ({"revision": True}, "AppStatus.revision: int is expected, not bool"),
        ({"created_at": "now"}, "AppStatus.created_at: a number is expected, not str"),
        ({"created_at": None}, "AppStatus.created_at: a number is expected, not null"),
        ({"state": 1}, "AppStatus.state: 1 is not a known value"),
        ({"notes": "one"}, "AppStatus.notes: a list is expected, not str"),
        ({"links": [["Docs"]]}, "AppStatus.links: a list of 2 is expected, not list"),
        ({"units": [{"name": "a"}]}, "UnitStatus.active: it is missing"),
        ({"units": ["a"]}, "UnitStatus: a map is expected, not str"),
        ({"gpu": []}, "GpuUse: a map is expected, not list"),
    ],
)
def test_a_value_of_another_type_is_named(changed: dict[str, Any], said: str) -> None:
    """With the class and the field, since nothing later would notice it there."""
    with pytest.raises(ProtocolMismatch, match="answer cannot be read") as caught:
        from_wire(AppStatus, {**sent(app_status()), **changed})
    assert caught.value.message.endswith(said)


def test_a_missing_field_has_its_default_or_is_named() -> None:
    """So a field that is added with a default does not shut out the daemon before it."""
    data = sent(app_status())
    del data["data"]
    assert from_wire(AppStatus, data) == app_status()
    del data["url"]
    with pytest.raises(ProtocolMismatch, match=r"AppStatus\.url: it is missing"):
        from_wire(AppStatus, data)


def test_what_only_programs_read_is_not_in_json() -> None:
    """The names that are printed are those of the class, in its order."""

    @dataclass(frozen=True, slots=True)
    class Two(Answer):
        shown: str
        kept: str = field(metadata=WIRE_ONLY)
        last: int

    assert json_fields(Two) == ("shown", "last")
    assert sent(Two("a", "b", 1)) == {"shown": "a", "kept": "b", "last": 1}


def test_a_field_of_a_type_that_cannot_be_checked_is_a_fault() -> None:
    """It is found by the first test that sends the answer, not by a user."""
    with pytest.raises(TypeError):
        from_wire(Unreadable, {"when": 1})


@dataclass(frozen=True, slots=True)
class Unreadable(Answer):
    """An answer as nobody may write one."""

    when: complex
