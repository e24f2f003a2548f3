"""Classes that share methods behave as those for which the standard library generates them."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flyted.base import small_dataclasses

GENERATED = dataclasses.dataclass


@pytest.fixture(params=["generated", "shared"])
def dataclass(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(dataclasses, "dataclass", GENERATED)
    if request.param == "shared":
        small_dataclasses.share()
    yield dataclasses.dataclass


def attempt(change: Callable[[], None]) -> str:
    with pytest.raises(dataclasses.FrozenInstanceError) as caught:
        change()
    return str(caught.value)


@pytest.mark.parametrize("slots", [False, True])
def test_a_frozen_class(dataclass: Any, slots: bool) -> None:
    @dataclass(frozen=True, slots=slots)
    class Account:
        name: str
        key: bytes = dataclasses.field(repr=False)
        hosts: tuple[str, ...] = ()

    account = Account("a", b"secret", ("b",))
    assert repr(account).endswith("Account(name='a', hosts=('b',))")
    assert repr(account).startswith("test_a_frozen_class.<locals>.")
    assert attempt(lambda: setattr(account, "name", "b")) == "cannot assign to field 'name'"
    assert attempt(lambda: delattr(account, "name")) == "cannot delete field 'name'"
    assert account == Account("a", b"secret", ("b",)) != Account("a", b"other", ("b",))
    assert len({account, dataclasses.replace(account)}) == 1


def test_methods_of_the_class_itself_and_of_one_above_it(dataclass: Any) -> None:
    @dataclass(frozen=True)
    class Own:
        value: int

        def __repr__(self) -> str:
            return "own"

    @dataclass(frozen=True)
    class Below(Own):
        other: int = 0

    @dataclass(frozen=True, repr=False)
    class Silent(Own):
        pass

    assert repr(Own(1)) == "own"
    assert repr(Below(1)).endswith("Below(value=1, other=0)")
    assert repr(Silent(1)) == "own"


def test_a_class_that_is_not_frozen(dataclass: Any) -> None:
    @dataclass
    class Count:
        value: int = 0

    count = Count()
    count.value += 1
    assert repr(count).endswith("Count(value=1)")
    with pytest.raises(TypeError, match="unhashable"):
        hash(count)


def test_what_is_compared_and_hashed(dataclass: Any) -> None:
    @dataclass(frozen=True)
    class Recipe:
        name: str
        note: str = dataclasses.field(default="", compare=False)
        job: dict[str, str] = dataclasses.field(default_factory=dict, hash=False)

    @dataclass(frozen=True)
    class Derived(Recipe):
        pass

    one = Recipe("a", job={"k": "v"})
    assert one == Recipe("a", "another", {"k": "v"}) != Recipe("a", "another")
    assert hash(one) == hash(Recipe("a", "another"))
    assert one != Derived("a", job={"k": "v"})
    text: Any = "a"
    assert one != text


def test_a_class_without_fields(dataclass: Any) -> None:
    @dataclass(frozen=True)
    class Nothing:
        pass

    @dataclass(frozen=True)
    class Other:
        pass

    nothing: Any = Nothing()
    other: Any = Other()
    assert nothing == Nothing() != other
    assert {nothing: 1}[Nothing()] == 1


def test_comparisons_of_the_class_itself(dataclass: Any) -> None:
    @dataclass(frozen=True)
    class Folded:
        name: str

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Folded) and self.name.lower() == other.name.lower()

        def __hash__(self) -> int:
            return hash(self.name.lower())

    @dataclass(eq=False)
    class Same:
        name: str

    @dataclass(frozen=True, order=True)
    class Ordered:
        name: str

    assert len({Folded("A"), Folded("a")}) == 1
    assert Same("a") != Same("a")
    assert len({Same("a"), Same("a")}) == 2
    assert Ordered("a") <= Ordered("a") < Ordered("b")  # type: ignore[operator]


def test_its_own_comparison_alone_is_hashed_by_its_fields(dataclass: Any) -> None:
    @dataclass(frozen=True)
    class Equal:  # noqa: PLW1641  that is what is tested
        name: str

        def __eq__(self, _other: object) -> bool:
            return True

    assert Equal("a") == Equal("b")
    assert hash(Equal("a")) == hash(Equal("a")) != hash(Equal("b"))
