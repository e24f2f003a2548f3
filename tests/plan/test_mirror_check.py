"""What doctor says of the mirrors of registries."""

from __future__ import annotations

import pytest

from flyted.plan.images import pull_unit
from flyted.plan.images.mirror_check import findings, mirrors_unit
from flyted.plan.images.pull_unit import PullSettings
from flyted.plan.sandbox import address
from flyted.registry import words

SETTINGS = PullSettings(
    mirrors={"ghcr.io": "https://mirror.example.org:5000/hub", "127.0.0.1:5443": "https://127.0.0.1:5443"}
)


def said(how: str, text: str = "it says so") -> list[str]:
    """The output of the unit."""
    return [f"{words.OURS}mirror ghcr.io {how}: {text}", f"{words.OURS}mirror 127.0.0.1:5443 answers: it answers"]


def test_the_unit_can_do_less_than_a_pull() -> None:
    """It has no folder, no login, sees nothing of flyted's state, and ends soon."""
    unit, pull = mirrors_unit(SETTINGS), pull_unit.pull_unit(pull_unit.image_name("a", ""), "linux/amd64", SETTINGS)
    assert unit["ExecStartEx"][0][1] == [
        "/usr/bin/python3", "-IS", pull_unit.PULLER, words.CHECK,
        words.MIRROR, "127.0.0.1:5443=https://127.0.0.1:5443",
        words.MIRROR, "ghcr.io=https://mirror.example.org:5000/hub",
    ]  # fmt: skip
    assert {"StateDirectory", "LoadCredential"} & set(unit) == set()
    assert unit["InaccessiblePaths"] == ["-/var/lib/flyted"]
    assert words.CHECK_S * 1_000_000 < unit["RuntimeMaxUSec"] < 60_000_000
    others = ("ExecStartEx", "Description", "InaccessiblePaths", "RuntimeMaxUSec", "StateDirectory",
              "StateDirectoryMode", "UMask")  # fmt: skip
    assert {k: v for k, v in unit.items() if k not in others} == {k: v for k, v in pull.items() if k not in others}
    assert address("127.0.0.1") in unit["IPAddressAllow"]


@pytest.mark.parametrize(
    ("how", "login", "ok", "hint"),
    [
        (words.ANSWERS, "", True, ""),
        (words.LOGIN, "", None, "docker login mirror.example.org:5000; flytectl secret create LOGIN"),
        (words.LOGIN, "hub", True, ""),
        (words.OTHER, "", None, "the address of a registry"),
        (words.UNTRUSTED, "", False, "/usr/local/share/ca-certificates/mirror.example.org.crt"),
        (words.UNREACHABLE, "", False, "correct mirrors"),
        ("something", "", False, "correct mirrors"),
    ],
)
def test_each_finding_has_what_to_type(how: str, login: str, ok: bool | None, hint: str) -> None:
    own, mirror = findings(said(how), SETTINGS, login)
    assert (own.registry, own.ok, own.detail) == ("127.0.0.1:5443", True, "it answers")
    assert (mirror.registry, mirror.ok) == ("ghcr.io", ok)
    assert mirror.detail.startswith("it says so, in place of ghcr.io")
    assert hint in mirror.hint
    assert bool(hint) == bool(mirror.hint)


def test_a_mirror_of_which_nothing_is_said() -> None:
    """The unit was killed, or says what is none of its lines; a stranger's text moves no cursor."""
    lines = ["mirror ghcr.io answers: x", f"{words.OURS}mirror a.b answers: x", *said("other", "a\x1b[2Jb")[:1]]
    own, mirror = findings(lines, SETTINGS, "")
    assert (own.ok, own.detail) == (False, "https://127.0.0.1:5443 could not be checked")
    assert mirror.detail == "a [2Jb, in place of ghcr.io"
    assert [each.ok for each in findings([], SETTINGS, "")] == [False, False]
