"""How the making of a layer ends when it does not end well: what is told, and that nothing is left."""

from __future__ import annotations

import pytest

from flyted.layers import words
from flyted.plan.facts import UnitEnd
from flyted.plan.images.layer_unit import layer_unit_name
from tests.machine.kit.layers import diff, listed, make, name, processes, remove, shell
from tests.machine.kit.units import must
from tests.machine.kit.users import until

pytestmark = pytest.mark.usefixtures("base")


def test_a_package_that_cannot_be_configured_is_shown_with_its_last_lines(base: str) -> None:
    """The command, its own status, and what it said last; the layers before it stay, and nothing of it."""
    script = """
    mkdir -p /tmp/bad/DEBIAN
    cd /tmp/bad/DEBIAN
    printf 'Package: bad\\nVersion: 1\\nArchitecture: all\\nMaintainer: nobody\\nDescription: bad\\n' >control
    printf '#!/bin/sh\\necho no luck today >&2\\nexit 3\\n' >/tmp/bad/DEBIAN/postinst
    chmod 755 /tmp/bad/DEBIAN/postinst
    dpkg-deb -b /tmp/bad /tmp/bad.deb >/dev/null
    apt-get install -y /tmp/bad.deb
    """
    made = make(name("postinst"), [base], {**shell(script), "show": "apt-get install ./bad.deb"})
    assert made.end == UnitEnd("exit-code", words.EX_STEP)
    message = made.failure.message
    assert message.startswith("apt-get install ./bad.deb: exited with status 100\n"), message
    assert "no luck today" in message
    assert not diff(made.layer).parent.exists()
    assert diff(base).exists()


def test_without_a_network_apt_fails_and_says_so(base: str) -> None:
    """A step that is given none has none, not even the machine's loopback."""
    made = make(name("offline"), [base], shell("ls /sys/class/net; apt-get update -o APT::Update::Error-Mode=any"))
    assert not made.ok
    assert "resolv" in made.failure.message or "connect" in made.failure.message, made.failure.message


def test_a_parent_that_is_gone_is_named(base: str) -> None:
    """Not a mount error."""
    made = make(name("orphan"), [base, "a" * 32], shell("true"))
    assert f"layer {'a' * 32}, which this one needs, is missing" in made.failure.message


def test_a_stop_ends_every_process(base: str) -> None:
    """Those that left the session and ignore signals too; the folder is not taken for a layer."""
    script = """
    trap '' TERM INT HUP
    for n in 1 2 3; do setsid sh -c 'trap "" TERM INT HUP; sleep 600' & done
    echo ready; sleep 600
    """
    layer = name("stopped")
    made = make(layer, [base], shell(script), then=lambda: must("systemctl", "stop", layer_unit_name(layer)))
    assert not made.ok
    assert processes() == []


def test_a_step_that_does_not_end_is_ended_at_its_limit(base: str) -> None:
    """All of it, whatever it ignores; the error says how long it had. The next try is made anew."""
    script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 600' & echo begun; sleep 600 & wait; sleep 600"
    layer = name("endless")
    made = make(layer, [base], {**shell(script), "show": "make all"}, settings={"runtime_max_s": 5})
    assert (made.end.result, made.lines) == ("timeout", ["begun"]), made
    assert made.failure.message == "make all: not finished after 5 seconds"
    assert made.failure.hint == "split it into more steps"
    assert processes() == []
    assert make(layer, [base], shell("true"), settings={"runtime_max_s": 60}).ok


def test_a_killed_step_that_still_makes_folders_is_removed(base: str) -> None:
    """A layer is removed when the last of its processes has ended, not when it was told to."""
    makes = (
        "for n in $(seq 8); do (while :; do mkdir -p /d$n/$RANDOM$RANDOM; : >/d$n/$RANDOM$RANDOM; done) & done; wait"
    )
    words_of = ["/bin/bash", "-c", makes]
    for _ in range(2):
        made = make(name("makes"), [base], {**shell("x"), "argv": words_of}, settings={"layer_files": 3_000})
        assert made.end == UnitEnd("exit-code", words.EX_FULL), made.text
        assert made.lines[-1] == f"{words.OURS}killed: it created more than 3000 files", made.text
        assert not diff(made.layer).parent.exists()


def test_a_kill_in_the_middle_and_then_again(base: str) -> None:
    """Whichever process it hits: what is left is removed by the next try, which succeeds."""
    layer = name("killed")
    script = "for n in $(seq 1000); do echo $n >/f$n; done; echo ready; test -e /again || sleep 600"
    for whom in ("main", "all"):
        made = make(layer, [base], shell(script), then=lambda whom=whom: _kill(layer, whom))  # type: ignore[misc]
        assert made.end == UnitEnd("signal", 9), made
        until(lambda: processes() == [])
        assert not made.ok
    made = make(layer, [base], shell("echo 1 >/f1"))
    assert made.ok, made.text
    assert listed(diff(layer)) == ["f1"]
    assert listed(diff(layer).parent) == [words.DIFF]


def test_what_no_recursion_survives_is_removed(base: str) -> None:
    """Whiteouts, folders that nobody may enter, a tree deeper than a path may be long."""
    script = """
    rm -rf /usr/share/doc; mkdir -p /shut/in; chmod 000 /shut; chown 5:5 /shut
    python3 -c 'import os
for n in range(3000): os.mkdir("d" * 20); os.chdir("d" * 20)'
    """
    made = make(name("deep"), [base], shell(script, caches=["/var/cache/x"]))
    assert made.ok, made.text
    assert remove(made.layer, "f" * 32) == UnitEnd("success", 0)
    assert not diff(made.layer).parent.exists()


def test_two_steps_at_once_do_not_reach_each_other(base: str) -> None:
    """Both are the same user of the machine: signals to all processes stay in the step that sends them."""
    other = name("other")

    def attack() -> None:
        made = make(
            name("attacker"),
            [base],
            shell("python3 -c 'import os, signal\ntry: os.kill(-1, 9)\nexcept OSError as e: print(e)'"),
        )
        assert "killed by SIGKILL" in made.text, made.text  # its own shell

    made = make(other, [base], shell("echo ready; sleep 8; echo over"), then=attack)
    assert (made.ok, made.lines) == (True, ["ready", "over"]), made.text


def _kill(layer: str, whom: str) -> None:
    must("systemctl", "kill", "--signal=KILL", f"--kill-whom={whom}", layer_unit_name(layer))
