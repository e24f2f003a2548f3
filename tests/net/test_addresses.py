"""Which address an app gets, with a kernel that is a table: near the end of the range, all taken, and again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flyted.net import plan, veth
from flyted.net.netlink import Exists, Failed

pytestmark = pytest.mark.slow

COUNT = plan.LAST - plan.FIRST + 1
ROUTER = 7


class Kernel:
    """As netlink.py, for what decides about addresses; ``taken``: links that are in the router's namespace."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.tries = 0
        self.addresses: list[str] = []

    def hand_over(self, name: str, pid: int, _master: int) -> None:
        """A link cannot move to where another one has its name."""
        assert pid == ROUTER
        self.tries += 1
        if name in self.taken:
            raise Exists("EEXIST")
        self.taken.add(name)

    def address(self, link: str, address: str, _prefix: int) -> None:
        """An app's."""
        if link == plan.INSIDE:
            self.addresses.append(address)

    def __getattr__(self, _name: str) -> Callable[..., None]:
        """What decides nothing."""
        return lambda *_words, **_more: None


@pytest.fixture(autouse=True)
def _none_had_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The namespace of the tests is no app's."""
    monkeypatch.setattr(veth, "_before", lambda: 0)


def connect(kernel: Kernel, first: int) -> int:
    """Connects an app; its number."""
    return veth.connect(kernel, ROUTER, first)  # type: ignore[arg-type]


@pytest.mark.parametrize("first", [0, COUNT - 1, 2**32 - 1])
def test_as_many_apps_as_there_are_ports_get_an_address_each(first: int) -> None:
    """Wherever each begins to look, also when all begin at one place; then it is said how many have one."""
    kernel = Kernel()
    numbers = [connect(kernel, first) for _ in range(COUNT)]
    assert sorted(numbers) == list(range(plan.FIRST, plan.LAST + 1))
    assert len(set(kernel.addresses)) == COUNT == 1021
    with pytest.raises(Failed, match="no address is left: 1021 apps have one"):
        connect(kernel, first)
    assert kernel.tries == COUNT * (COUNT + 1) // 2 + COUNT


@pytest.mark.parametrize("number", [plan.FIRST, 500, plan.LAST])
def test_what_an_app_gives_back_the_next_one_gets(number: int) -> None:
    """The only one that is free is found from everywhere, the ends of the range included."""
    for first in range(0, COUNT, 17):
        kernel = Kernel()
        kernel.taken = {plan.port(each) for each in range(plan.FIRST, plan.LAST + 1)}
        kernel.taken.discard(plan.port(number))
        assert connect(kernel, first) == number
        assert kernel.addresses == [plan.address(number)]


def test_the_range_goes_round_at_its_end() -> None:
    """The last number, then the first."""
    kernel = Kernel()
    assert [connect(kernel, COUNT - 1) for _ in range(3)] == [plan.LAST, plan.FIRST, plan.FIRST + 1]
    assert kernel.addresses[0] == "198.18.3.254"


@pytest.mark.parametrize("given", [plan.FIRST_CALLER, plan.FIRST_CLOSED, plan.LAST_CALLER])
def test_an_app_that_calls_others_gets_the_address_that_it_was_given(given: int) -> None:
    """Or none: the ingress knows it by that one. Without egress it gets a way to apps, and no other."""
    kernel = Kernel()
    routes: list[tuple[str, int]] = []
    kernel.route = lambda target, prefix, **_way: routes.append((target, prefix))  # type: ignore[attr-defined]
    assert veth.connect(kernel, ROUTER, 0, given=given) == given  # type: ignore[arg-type]
    assert kernel.addresses == [plan.address(given)]
    only = [(plan.ROUTER, 32), (plan.CALLS, 32)]
    assert routes == (only if given >= plan.FIRST_CLOSED else [(plan.ROUTER, 32), *plan.OPEN])
    with pytest.raises(Failed, match=f"{plan.address(given)}, which flyted gave this app, is another one's still"):
        veth.connect(kernel, ROUTER, 0, given=given)  # type: ignore[arg-type]
    assert kernel.addresses == [plan.address(given)]


@pytest.mark.parametrize(("text", "number"), [("1024\n", 1024), ("3071", 3071), (None, 0)])
def test_the_address_is_read_from_flyteds_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, number: int
) -> None:
    """An app that calls no other has no file."""
    monkeypatch.setattr(veth, "GIVEN", str(tmp_path))
    if text is not None:
        (tmp_path / "a-r1-0.number").write_text(text)
    assert veth._given("a-r1-0") == number


@pytest.mark.parametrize("text", ["1023", "3072", "2", "-1", "x", "\u0661"])
def test_a_number_that_no_caller_can_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """The app would have the address of another one."""
    monkeypatch.setattr(veth, "GIVEN", str(tmp_path))
    (tmp_path / "a-r1-0.number").write_text(text)
    with pytest.raises(Failed, match=r"a-r1-0\.number is not valid"):
        veth._given("a-r1-0")
