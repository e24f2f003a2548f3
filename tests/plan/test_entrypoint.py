"""The image's own program in the place of a command that its app leaves to it, as on Kubernetes."""

from __future__ import annotations

import pytest

from flyted.contract.errors import InvalidInput
from flyted.plan.facts import ImageFact, RootFact
from flyted.plan.images.entrypoint import with_entrypoint
from tests.values import spec


@pytest.mark.parametrize(
    ("given", "entrypoint", "cmd", "command"),
    [
        ((), ("e",), ("c",), ("e", "c")),
        (("a",), ("e",), ("c",), ("e", "a")),
        (("a",), (), ("c",), ("a",)),
        ((), (), ("c",), ("c",)),
    ],
)
def test_the_command_of_an_image(
    given: tuple[str, ...], entrypoint: tuple[str, ...], cmd: tuple[str, ...], command: tuple[str, ...]
) -> None:
    """ENTRYPOINT, and the app's args in the place of CMD."""
    root = RootFact((), entrypoint=entrypoint, cmd=cmd)
    made = with_entrypoint(spec("a", command=given, entrypoint=True, port=8080, bundle="a" * 64), root)
    assert (made.command, made.entrypoint, made.bundle) == (command, False, "")
    own = spec("a", command=("own",))
    assert with_entrypoint(own, root) is own


def test_an_image_without_a_program_is_refused() -> None:
    """With what to write."""
    with pytest.raises(InvalidInput, match="names no program") as caught:
        with_entrypoint(spec("a", command=(), entrypoint=True), RootFact(()))
    assert "command=[...]" in caught.value.hint


def test_it_is_stored_with_the_image() -> None:
    """A revision keeps what its image was, by digest."""
    root = RootFact(("l",), "", "/w", ("/v",), ("e",), ("c",), (("nginx", "sha256:x"),))
    fact = ImageFact("", root=root)
    assert ImageFact.from_dict(fact.to_dict()).root == root
    assert RootFact.from_dict({"layers": ["l"], "python": "", "workdir": "", "volumes": []}) == RootFact(("l",))
