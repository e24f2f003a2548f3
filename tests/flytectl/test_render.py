"""Text for people and JSON for programs, from values alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytectl import render, tables
from flytectl.times import for_people
from flyted.contract.answers.apps import (
    AppStatus,
    Failure,
    ImageStatus,
    ReplicaStatus,
    Requests,
    UnitStatus,
    UsedSecret,
)
from flyted.contract.answers.codec import json_fields
from flyted.contract.answers.events import LogLine
from flyted.contract.answers.images import ImageEntry, LayerStatus, Pruned, PulledImage, Rebuilt
from flyted.contract.answers.models import ModelStatus
from flyted.contract.answers.secrets import SecretStatus
from flyted.contract.answers.tokens import TokenStatus
from flyted.contract.status import AppState
from tests.answers import app_status, whole

APP = app_status(
    "authenticated-api", project="default", revision=2, serving_since=1700000040.0, deployed_by="",
    image=whole(ImageStatus, hash="ab12", python="3.12.3", asked="3.12"),
    units=(UnitStatus("flyted-app-authenticated-api-r2-0.service", "active", "running"),),
    secrets=(UsedSecret("API_KEY", "API_KEY", ""), UsedSecret("CERT", "", "CERT")),
    memory_bytes=512 << 20, cpu_cores=1.0, type="FastAPI", links=(("Docs", "/docs"),), requests=Requests(0, 12),
)  # fmt: skip

NOW = 1700000100 + 300


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch):
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_an_app_that_asks_for_a_token_says_how_to_get_one() -> None:
    """And one that does not says nothing of it."""
    assert "flytectl token" in render.app_details(replace(APP, requires_auth=True), colour=False)
    assert "flytectl token" not in render.app_details(replace(APP, requires_auth=False), colour=False)


@given(st.text())
def test_no_text_of_an_app_steers_the_terminal(text: str) -> None:
    """Whatever comes in, one line without any control, format or line-separating character goes out."""
    shown = render.safe(text)
    assert all(c.isprintable() or c in "\u00a0\u200d\u202f\u3000" for c in shown)
    assert "\n" not in shown


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b]0;x\x07", r"\x1b]0;x\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\nc\td", r"a\rb\nc\td"),
        ("user\u202egnp.exe", r"user\u202egnp.exe"),
        ("a\u2028b\x7f", r"a\u2028b\x7f"),
        ("Grüße, 世界 \U0001f468\u200d\U0001f469", "Grüße, 世界 \U0001f468\u200d\U0001f469"),
    ],
)
def test_escape_sequences_are_shown_escaped(raw: str, shown: str) -> None:
    """Escapes, C1 controls and bidirectional overrides become visible; people's own scripts stay."""
    assert render.safe(raw) == shown


@given(st.text())
def test_text_of_several_lines_keeps_only_line_ends_and_tabs(text: str) -> None:
    """A log line with a line end in it keeps it; nothing else steers."""
    assert all(c in "\n\t\u00a0\u200d\u202f\u3000" or c.isprintable() for c in render.safe_lines(text))


def test_a_table_is_aligned_and_a_cell_cannot_forge_a_row() -> None:
    """Columns line up; a line end in a cell is shown, so no app writes a row of its own."""
    text = render.table(["NAME", "URL"], [["a", "x"], ["long-name", "y\nforged  row"]])
    assert text.split("\n") == ["NAME       URL", "a          x", r"long-name  y\nforged  row"]


def test_app_ls_shows_what_one_looks_for() -> None:
    """Name, state, revision and URL; the scope only when one differs from Flyte's default."""
    other = replace(APP, name="other", project="p", domain="production", state=AppState.SLEEPING)
    assert render.apps_table([APP], colour=False, now=NOW).split("\n") == [
        "NAME               STATE    REV  AGE    URL",
        "authenticated-api  running  2    6 min  https://authenticated-api.apps.localhost",
    ]
    lines = render.apps_table([other, APP], colour=False, now=NOW).split("\n")
    assert [line.split()[:2] for line in lines[1:]] == [
        ["authenticated-api", "default/development"], ["other", "p/production"],
    ]  # fmt: skip


def test_colour_changes_no_character_of_a_table() -> None:
    """Without its colour codes a coloured table is the plain one, also when a name looks like a state."""
    apps = [replace(APP, name="running"), replace(APP, name="x", state=AppState.FAILED)]
    coloured = render.apps_table(apps, colour=True, now=NOW)
    assert "\x1b[31mfailed\x1b[0m" in coloured
    for code in ("\x1b[31m", "\x1b[32m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == render.apps_table(apps, colour=False, now=NOW)


def test_an_app_of_several_replicas_shows_each() -> None:
    """How many there may be and why, and the state of each; an app of one has no such line, and no column."""
    three = (
        ReplicaStatus(0, AppState.RUNNING, "", NOW - 60.0), ReplicaStatus(1, AppState.FAILED, "it exited", 0.0),
        ReplicaStatus(2, AppState.RUNNING, "", NOW - 60.0),
    )  # fmt: skip
    app = replace(APP, max_replicas=5, concurrency=10, sticky=True, replicas=three)
    text = render.app_details(app, colour=False)
    assert "  Replicas  0 to 5, one for 10 requests at once, a browser's requests go to the same one\n" in text
    assert "  Replica   0: running, since 2023-11-14T" in text
    assert "  Replica   1: failed (it exited)\n" in text
    for other, said in (
        (replace(app, concurrency=0), "0 to 5, by their CPU time"), (replace(app, min_replicas=5), "5 always"),
        (replace(app, concurrency=0, request_rate=1, min_replicas=2), "2 to 5, one for 1 request a second"),
    ):  # fmt: skip
        assert f"  Replicas  {said}" in render.app_details(other, colour=False)
    assert render.apps_table([app], colour=False, now=NOW).split("\n")[1].split()[:3] == [APP.name, "running", "2/5"]
    assert "Replica" not in render.app_details(APP, colour=False)


def test_a_line_of_another_replica_says_which() -> None:
    """Those of the first one look as ever."""
    line = LogLine(time=1_700_000_000_000_000, revision=1, source="systemd", text="x")
    assert render.log_line(line).endswith("+00:00 systemd: x")
    assert render.log_line(replace(line, replica=2)).endswith("+00:00 [2] systemd: x")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"min_replicas": 1}, "never"),
        ({"idle": "stop"}, "after 300 s without a request\n"),
        (
            {"idle": "freeze", "stop_after_s": 3600.0},
            "after 300 s without a request, frozen and stopped 3600 s later\n",
        ),
        ({"idle": "freeze", "stop_after_s": 0.0}, "after 300 s without a request, frozen until its next request\n"),
    ],
)
def test_app_get_says_what_an_idle_app_does(changes: dict[str, Any], said: str) -> None:
    assert said in render.app_details(replace(APP, **changes), colour=False)


def test_app_get_tells_every_fact_once() -> None:
    """URL, revision, Python, limits, sleeping, secrets and units are there; empty facts are not."""
    failed = replace(APP, last_failure=Failure(3, "exit status 1"), reason="r3 failed")
    text = render.app_details(failed, colour=False)
    assert text.startswith("authenticated-api: running (r3 failed)\n")
    for fact in (
        "https://authenticated-api.apps.localhost", "2, since 2023-11-14T22:14:00+00:00 (", "3.12.3\n",
        "1 CPU, 512.0 MiB",
        "after 300 s without a request", "API_KEY as $API_KEY", "CERT as /etc/flyte/secrets/CERT", "0 now, 12 so far",
        "flyted-app-authenticated-api-r2-0.service  active (running)", "revision 3: exit status 1", "Docs: /docs",
    ):  # fmt: skip
        assert fact in text
    assert "About" not in text


def test_an_image_says_when_it_was_built_and_what_from_source() -> None:
    """Source packages ran code of their own in the build; an environment that was given has no such line."""
    image = whole(ImageStatus, python="3.12.3", asked="3.12", built_at=1.8e9, built=("one==2", "x\x1b==1"))
    text = render.app_details(replace(APP, image=image), colour=False)
    assert f"  Image     built {for_people(1.8e9)}, from source: one==2, x\\x1b==1\n" in text
    assert "from source" not in render.app_details(replace(APP, image=replace(image, built=())), colour=False)
    assert "Image" not in render.app_details(APP, colour=False)


def test_json_has_exactly_the_documented_fields() -> None:
    """Those of the answer's class in their order; not what only programs of flyted read."""
    text = render.to_json(replace(APP, spec_digest="5f0c1e"))
    assert list(json.loads(text)) == list(json_fields(AppStatus))
    assert "5f0c1e" not in text


@given(st.text() | st.just("\x7f"))
def test_json_is_plain_ascii(text: str) -> None:
    """JSON holds the exact text, and only printable ASCII but for the indent's line ends."""
    written = render.to_json({"text": text})
    assert json.loads(written) == {"text": text}
    assert all(c == "\n" or " " <= c <= "~" for c in written)


def test_a_damaged_secret_is_seen_at_a_glance() -> None:
    """``secret ls`` has a state column as soon as one file is not what was written."""
    secret = whole(SecretStatus, key="K", generation=3)
    plain = render.secrets_table([secret])
    assert plain.split("\n") == ["KEY  UPDATED", f"K    {for_people(0)}"]
    assert render.secrets_table([replace(secret, damaged=True)]).endswith("DAMAGED")
    assert "*/production" in render.secrets_table([replace(secret, domain="production")])


def test_a_log_line_has_local_time_and_says_who_speaks() -> None:
    """Microseconds become a short local time; systemd's own words are marked."""
    event = LogLine(time=1_700_000_000_123_456, revision=2, source="app", text="hello\x1b[2J")
    assert render.log_line(event) == r"2023-11-14T22:13:20+00:00 hello\x1b[2J"
    assert render.log_line(replace(event, source="systemd", text="Started.")).endswith(" systemd: Started.")


def test_an_error_ends_in_something_to_type() -> None:
    """Message, then each line of the hint; both are made harmless."""
    assert render.error_text("no \x1b[1m", "a\nb") == "flytectl: no \\x1b[1m\n  hint: a\n        b"
    assert render.error_text("just this", "") == "flytectl: just this"


def test_impossible_times_do_not_stop_a_listing() -> None:
    """A number that is no time is shown as it is."""
    assert for_people(1e300) == "1e+300"


def test_models_show_what_is_wrong_with_them() -> None:
    """The size, or why apps cannot use it; nothing in a path steers the terminal."""
    text = tables.models_table(
        [
            ModelStatus("Qwen/Qwen3-0.6B", "/srv/\x1b[31m", bytes=3 << 29, problem="", added_at=0.0),
            ModelStatus("gone", "/srv/x", bytes=0, problem="cannot be read", added_at=0.0),
        ]
    )
    assert text.splitlines()[0].split() == ["NAME", "SIZE", "FOLDER"]
    assert "1.5 GiB" in text
    assert "cannot be read" in text
    assert "\x1b" not in text


def test_a_pulled_image_is_named_with_its_digest_and_size() -> None:
    """And how long it is kept."""
    image = PulledImage("docker.io/library/nginx:1.27", "sha256:00", "ab" * 16, 1, 3 << 20)
    assert tables.pulled_text(image).splitlines() == [
        "docker.io/library/nginx:1.27 is sha256:00",
        "image abababababab: 1 layer, 3.0 MiB; kept for a week after its last use",
    ]


def test_a_rebuilt_image_says_which_apps_have_it() -> None:
    """And which do not yet."""
    old, new = "ab" * 16, "cd" * 16
    assert tables.rebuilt_text(Rebuilt(old, old, (), ())) == "image abababababab: it is up to date"
    assert tables.rebuilt_text(Rebuilt(old, new, ("a", "b"), ("c",))).splitlines() == [
        "image abababababab is rebuilt as cdcdcdcdcdcd",
        "deployed: a, b",
        "with their next deploy: c",
    ]


def test_what_is_pruned_is_named_with_its_size() -> None:
    """Before and after; only what there is."""
    images = (whole(ImageEntry, hash="ab" * 16, bytes=1 << 20, built_at=86400.0),)
    before, after = (tables.pruned_text(Pruned(images, 3, 1 << 20, 3 << 20), done=done) for done in (False, True))
    assert before.splitlines() == [
        "  abababababab    1.0 MiB  built 1970-01-02",
        "unused: 1 image, 3 layers, 1.0 MiB of downloads; 3.0 MiB in all",
    ]  # fmt: skip
    assert after.splitlines()[1] == "deleted: 1 image, 3 layers, 1.0 MiB of downloads; 3.0 MiB freed"
    assert tables.pruned_text(Pruned((), 1, 0, 0), done=True) == "deleted: 1 layer; 0 B freed"
    assert tables.pruned_text(Pruned((), 0, 0, 0), done=True) == "nothing to delete"


def test_images_show_their_size_and_who_uses_them() -> None:
    """A short hash in the table; the layers with their times in the text; nothing in them steers the terminal."""
    first = LayerStatus("layer 1 (pip_packages)", ("fastapi\x1b[1m",), 1.25)
    layers = (first, LayerStatus("base image", ("flyte",), 0))
    users = ("chat", "p/d/x")
    image = ImageEntry("ab" * 16, "3.13.5", 7, 3 << 29, 86400.0, users, "no 3.12 here", ("x==1",), layers, (), "e")
    row = tables.images_table([image]).splitlines()[1]
    assert row.split() == ["abababababab", "3.13.5", "7", "1.5", "GiB", "1970-01-02", "-", "chat,", "p/d/x"]
    text = tables.image_text(image)
    assert "Note:        no 3.12 here\nRebuilt as:  e\n" in text
    assert "layer 1 (pip_packages) (1.2 s)\n  fastapi\\x1b[1m\nbase image\n  flyte" in text
    assert "\x1b" not in text
    unknown = replace(image, bytes=0, used_by=())
    assert tables.images_table([unknown]).splitlines()[1].split()[3:] == ["?", "1970-01-02", "-", "-"]


def test_an_image_of_a_registry_is_listed_by_its_name() -> None:
    """As the file or `image pull` wrote it: nobody knows it by its hash."""
    digest = "sha256:" + "cd" * 32
    bases = ((f"ghcr.io/a/b@{digest}", digest), ("nginx:1.27", digest))
    image = whole(ImageEntry, hash="ab" * 16, bytes=1 << 20, built_at=86400.0, digests=bases)
    assert "  ghcr.io/a/b@sha256:cdcdcdcdcdcd, nginx:1.27  " in tables.images_table([image])
    unused = tables.pruned_text(Pruned((image,), 0, 0, 0), done=False)
    assert "built 1970-01-02  from ghcr.io/a/b@sha256:cdcdcdcdcdcd, nginx:1.27\n" in unused
    assert f"From:        ghcr.io/a/b@{digest} ({digest}), nginx:1.27 ({digest})\n" in tables.image_text(image)


def test_an_app_says_which_of_its_paths_are_open_and_where_its_models_lie() -> None:
    """Only where some are closed, or some are of this machine; shared memory is part of the memory."""
    plain = render.app_details(APP, colour=False)
    assert "and nothing else" not in plain
    assert "/dev/shm" not in plain
    app = replace(APP, open_paths=("/v1", "/health"), models=(("Qwen/Qwen3-0.6B", "/srv/q"),), shm_bytes=64 << 20)
    text = render.app_details(app, colour=False)
    assert "/v1, /health, and nothing else" in text
    assert "Qwen/Qwen3-0.6B in /srv/q" in text
    assert "64.0 MiB of /dev/shm in it" in text
    assert "no path, and nothing else" in render.app_details(replace(APP, open_paths=()), colour=False)


def test_tokens_without_a_name_share_a_row() -> None:
    """One for each call of flyte: how many, and when the last of them ends; those with a name stay apart."""
    one = whole(TokenStatus, id="0a", kind="session", user="bob", expires_at=5.0)
    named = replace(one, id="0c", kind="named", name="ci")
    text = tables.tokens_table([one, replace(one, id="0b", expires_at=1.8e9), named, replace(named, id="0d")])
    lines = text.splitlines()[1:]
    assert [line.split()[-1] for line in lines[1:]] == ["0c", "0d"]
    assert lines[0].startswith("(2 of them)  session")
    assert for_people(1.8e9) in lines[0]


def test_an_error_under_json_is_one_line_of_it() -> None:
    """As documented, without a control character."""
    text = render.error_json("not-found", "no\x1b", "a\nb")
    assert json.loads(text) == {"error": "no\x1b", "hint": "a\nb", "code": "not-found"}
    assert text.isprintable()


def test_a_python_that_is_not_the_one_asked_for_is_told() -> None:
    """By the two versions; the notes of the build, which may be of something else, have a line of their own."""
    note = "Python 3.12 could not be downloaded (why); using 3.13 instead"
    image = whole(ImageStatus, python="3.13.5", asked="3.12", note=note)
    text = render.app_details(replace(APP, image=image), colour=False)
    lines = [line.split(maxsplit=1) for line in text.split("\n")]
    assert ["Python", "3.13.5 (asked for 3.12)"] in lines
    assert ["Note", note] in lines


def test_the_day_of_a_tokens_last_use() -> None:
    """Of those that share a row, the last."""
    token = whole(TokenStatus, id="0c", kind="named", name="ci", user="bob", expires_at=5.0)
    assert " 2023-11-14  " in tables.tokens_table([replace(token, used_at=1.7e9)])
    assert " -  " in tables.tokens_table([token])
