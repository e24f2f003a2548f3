"""The unit that pulls an image: what it may do, and what is read of what it leaves behind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flyted.contract.app import SecretUse
from flyted.contract.errors import BuildFailed, InvalidInput, StoreCorrupt
from flyted.plan.images import pull_unit as plan
from flyted.plan.images.pull_unit import PullSettings
from flyted.plan.sandbox import address
from flyted.plan.secrets import BuildGrant, BuildSecret, grant
from flyted.registry import words
from flyted.registry.reference import parse

NGINX = parse("nginx:1.27")
DIGEST = "sha256:" + "a" * 64


def argv(*words: Any, **more: Any) -> list[str]:
    found: list[str] = plan.pull_unit(*words, **more)["ExecStartEx"][0][1]
    return found


def test_the_unit_has_no_right_and_one_folder() -> None:
    unit = plan.pull_unit(NGINX, "linux/amd64")
    assert (unit["User"], unit["StateDirectory"], unit["ProtectSystem"]) == (
        "flyted-build",
        ["flyted/blobs"],
        "strict",
    )
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == 0
    assert unit["MemoryDenyWriteExecute"]
    assert unit["NoNewPrivileges"]
    assert "LoadCredential" not in unit
    assert {"-/var/lib/flyted/layers", "-/var/lib/flyted/images"} < set(unit["InaccessiblePaths"])


def test_its_options() -> None:
    settings = PullSettings(mirrors=plan.mirrors({"index.docker.io": "https://mirror.example/hub"}), most_bytes=5)
    assert argv(NGINX, "linux/arm64", settings, resolve_only=True) == [
        "/usr/bin/python3", "-IS", plan.PULLER, "--pull", "docker.io/library/nginx:1.27", "--platform", "linux/arm64",
        "--most-bytes", "5", "--resolve-only", "--mirror", "docker.io=https://mirror.example/hub",
    ]  # fmt: skip


def test_a_login_is_a_credential() -> None:
    unit = plan.pull_unit(NGINX, "linux/amd64", login=True)
    assert unit["LoadCredential"] == [(words.AUTH, "/run/flyted/credentials.sock")]


def test_a_pull_is_granted_its_logins_and_no_other_secret() -> None:
    """By the name under which it reads them."""
    granted = plan.login_grant("hub", ("p", "d"))
    assert granted == BuildGrant("p", "d", {words.AUTH: SecretUse("hub", file=words.AUTH)})
    assert grant("flyted-pull-x.service", words.AUTH, [], {"flyted-pull-x.service": granted}) == BuildSecret(
        "p", "d", SecretUse("hub", file=words.AUTH)
    )
    assert plan.login_grant("", ("p", "d")) is None


def test_only_what_settings_name_is_open() -> None:
    """Mirrors and proxies of this machine, by address; names are as they resolve."""
    settings = PullSettings(
        mirrors={"a": "http://127.0.0.1:5000", "b": "https://mirror.example", "c": "https://[::1]:5/x"},
        environment={"HTTPS_PROXY": "http://u:p@10.0.0.9:3128", "no_proxy": "localhost", "SSL_CERT_FILE": "/x"},
        addresses=("127.0.0.1",),
    )
    unit = plan.pull_unit(NGINX, "linux/amd64", settings)
    assert address("127.0.0.0/8") in unit["IPAddressDeny"]
    opened = unit["IPAddressAllow"]
    assert [each for each in opened if each == address("127.0.0.1")] == [address("127.0.0.1")]
    assert address("::1") in opened
    assert address("10.0.0.9") in opened
    assert len(opened) == 5  # and systemd-resolved's two
    unit = plan.pull_unit(NGINX, "linux/amd64", PullSettings(mirrors={"a": "http://localhost:5000"}))
    assert address("127.0.0.1") in unit["IPAddressAllow"]


def test_one_unit_for_each_image() -> None:
    names = {
        plan.unit_name(parse(text), platform, resolve_only=resolve_only)
        for text in ("nginx", "docker.io/nginx", "nginx:1.27") for platform in ("linux/amd64", "linux/arm64")
        for resolve_only in (True, False)
    }  # fmt: skip
    assert len(names) == 8
    logins = [plan.login_grant(key, scope) for key in ("a", "b") for scope in (("p", "d"), ("p", "e"))]
    names |= {plan.unit_name(NGINX, "linux/amd64", login=login) for login in logins}
    assert len(names) == 12, "nobody waits for a pull with another's login"
    assert all(name.startswith("flyted-pull-") and len(name) == 52 for name in names)


@pytest.mark.parametrize(
    ("arch", "platform"), [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64"), ("riscv64", "linux/riscv64")]
)
def test_platforms(arch: str, platform: str) -> None:
    assert plan.platform_of(arch) == platform


def test_a_name_that_is_none() -> None:
    with pytest.raises(InvalidInput, match="from_base: 'NGINX' is not a container image") as caught:
        plan.image_name("NGINX", "from_base")
    assert "python:3.12-slim" in caught.value.hint
    assert plan.image_name("nginx:1.27", "from_base") == NGINX


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"a/b": "https://x"}, "is not a registry"),
        ({"a": "x"}, "must be an address"),
        ({"a": "ftp://x"}, "must be an"),
        ({"a": "https://u:p@x"}, "must be an"),
        ({"a": 5}, "must be an"),
        ({"a": "https://x/?q"}, "must be an"),
        ({"a": "https://x\n"}, "must be an"),
        ({"a": "https://x/=a --b"}, "must be an"),
    ],
)
def test_mirrors_that_are_none(table: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        plan.mirrors(table)


def test_which_image_it_is() -> None:
    lines = [
        "flyted-pull: layer 1 of 1",
        f"flyted-pull: docker.io/library/nginx:1.27 is docker.io/library/nginx@{DIGEST}",
    ]
    assert plan.resolved(lines) == DIGEST
    assert plan.record_path(DIGEST) == f"/var/lib/flyted/blobs/pulled/{'a' * 64}.json"
    assert plan.record_path(DIGEST, resolve_only=True) == f"/var/lib/flyted/blobs/resolved/{'a' * 64}.json"


@pytest.mark.parametrize(
    "line", ["", f"x is y@{DIGEST}", f"flyted-pull: a b is y@{DIGEST}", f"flyted-pull: x is y@{DIGEST}0"]
)
def test_a_line_that_does_not_say_it(line: str) -> None:
    with pytest.raises(StoreCorrupt):
        plan.resolved([line])


@pytest.mark.parametrize("digest", ["", "a" * 64, "sha256:" + "/" * 64, "sha256:" + "a" * 65])
def test_no_digest_no_record(digest: str) -> None:
    with pytest.raises(InvalidInput):
        plan.record_path(digest)


RECORD: dict[str, Any] = {
    "format": 1, "reference": "docker.io/library/nginx:1.27", "platform": "linux/amd64", "manifest": DIGEST,
    "config": DIGEST, "image": {"config": {"User": "www"}},
    "layers": [{"digest": DIGEST, "media": "m", "size": 5, "diff_id": DIGEST}],
}  # fmt: skip


def test_a_record() -> None:
    found = plan.pulled_image(json.dumps(RECORD))
    assert (found.manifest, found.config, found.layers[0].size) == (DIGEST, {"User": "www"}, 5)


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 2},
        {"reference": "A"},
        {"manifest": "x"},
        {"image": {}},
        {"image": {"config": 5}},
        {"layers": 5},
        {"layers": [{**RECORD["layers"][0], "size": -1}]},
        {"layers": [{**RECORD["layers"][0], "digest": "../x"}]},
        {"layers": [{**RECORD["layers"][0], "media": "m" * 256}]},
        {"layers": RECORD["layers"] * 501},
        {"manifest": None},
    ],
)
def test_a_record_that_is_none(changed: dict[str, Any]) -> None:
    with pytest.raises(StoreCorrupt):
        plan.pulled_image(json.dumps({**RECORD, **changed}))


@pytest.mark.parametrize("text", ["", "[]", "[" * 99_999, "{}"])
def test_a_text_that_is_no_record(text: str) -> None:
    with pytest.raises(StoreCorrupt):
        plan.pulled_image(text)


EVERY_STATUS = [value for name, value in vars(words).items() if name.startswith("EX_")]


@pytest.mark.parametrize("status", EVERY_STATUS)
def test_every_end_has_its_words(status: int) -> None:
    found = plan.pull_failure(NGINX, "exit-code", status, ["x", "flyted-pull: trying", "flyted-pull: the reason"])
    assert isinstance(found, BuildFailed)
    assert found.message == "docker.io/library/nginx:1.27: the reason"
    assert "journalctl" not in found.hint


def test_an_address_that_is_closed_is_the_registrys_or_one_that_it_leads_to() -> None:
    """A setting opens only the first one."""
    mirrors = {"q.io": "http://127.0.0.1:5999"}
    for name, lines, hint in (
        ("localhost/a", "localhost is at ::1, an address", 'images.mirrors."localhost"'),
        ("q.io/a", "127.0.0.1:5999 is at 127.0.0.1, an", 'images.mirrors."q.io"'),
        ("q.io/a", "169.254.169.254 is at 169.254.169.254", "the registry itself leads there"),
    ):
        found = plan.pull_failure(parse(name), "exit-code", words.EX_REFUSED, [f"flyted-pull: {lines}"], mirrors)
        assert hint in found.hint


def test_ends_without_words() -> None:
    assert "status 1" in plan.pull_failure(NGINX, "exit-code", 1, []).message
    assert "after 60 minutes" in plan.pull_failure(NGINX, "timeout", 15, []).message
    assert "was killed" in plan.pull_failure(NGINX, "signal", 9, []).message
    assert "was killed" in plan.pull_failure(NGINX, "oom-kill", 9, []).message


def test_a_login_is_explained_for_the_registry() -> None:
    hints = [plan.pull_failure(parse(text), "exit-code", words.EX_NOPERM, []).hint for text in ("a", "ghcr.io/a/b")]
    assert [hint.partition(";")[0] for hint in hints] == ["docker login", "docker login ghcr.io"]


def test_a_login_is_explained_for_the_mirror() -> None:
    """It alone is asked, so a login of the registry's would be of no use."""
    mirrors = {"docker.io": "https://mirror.example:5443/hub"}
    failures = [plan.pull_failure(parse(name), "exit-code", words.EX_NOPERM, [], mirrors) for name in ("a", "q.io/b")]
    hints = [failure.hint for failure in failures]
    assert [hint.partition(";")[0] for hint in hints] == ["docker login mirror.example:5443", "docker login q.io"]


def test_a_name_that_a_mirror_does_not_have_is_explained() -> None:
    """Nobody wrote the name of Flyte's own base, so there is nothing in it to check."""
    mirrors = {"docker.io": "https://mirror.example", "q.io": "http://q.io"}  # the second one: by plain HTTP
    names = ("a", "q.io/b", "r.io/c")
    hints = [plan.pull_failure(parse(name), "exit-code", words.EX_NOTFOUND, [], mirrors).hint for name in names]
    assert hints[0].startswith("flyted.toml names https://mirror.example as its mirror")
    assert hints[1:] == [f"check the name and the tag: {name}:latest" for name in names[1:]]
