"""Names of images, as `docker pull` reads them."""

from __future__ import annotations

import pytest

from flyted.registry.reference import parse, registry

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("bitnami/redis", "docker.io/bitnami/redis:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("docker.io/library/python:3.12-slim", "docker.io/library/python:3.12-slim"),
        ("index.docker.io/a/b", "docker.io/a/b:latest"),
        ("registry-1.docker.io/a/b", "docker.io/a/b:latest"),
        ("ghcr.io/flyteorg/flyte:py3.12-v2", "ghcr.io/flyteorg/flyte:py3.12-v2"),
        (f"ghcr.io/a/b@{DIGEST}", f"ghcr.io/a/b@{DIGEST}"),
        (f"ghcr.io/a/b:v1@{DIGEST}", f"ghcr.io/a/b:v1@{DIGEST}"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("a:5000/b", "a:5000/b:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("[fd00::1]/a", "[fd00::1]/a:latest"),
        ("Registry.Example.com/a", "registry.example.com/a:latest"),
        ("nvcr.io/nvidia/pytorch:24.01-py3", "nvcr.io/nvidia/pytorch:24.01-py3"),
        ("a/b__c/d.e-f--g", "docker.io/a/b__c/d.e-f--g:latest"),
        ("quay.io/a/b:_X.y-Z", "quay.io/a/b:_X.y-Z"),
    ],
)
def test_a_name_gets_its_defaults(text: str, full: str) -> None:
    assert str(parse(text)) == full
    assert parse(full) == parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " nginx",
        "nginx ",
        "nginx\n",
        "NGINX",
        "a//b",
        "/a",
        "a/",
        "a:",
        "a:b:c",
        "a@sha256:abc",
        f"a@{DIGEST[:-1]}A",
        "a@md5:" + "a" * 32,
        "a:" + "x" * 129,
        "a:-b",
        "a" * 256,
        "x/" * 600,
        "https://ghcr.io/a/b",
        "user:pass@host/a",
        "a..b",
        "a___b",
        "-a",
        "a-",
        "host:0/a",
        "host:65536/a",
        "host:99999999/a",
        "[::1/a",
        "a/../b",
        "a/./b",
        "ä",
        "a\0b",
        "a?b",
        "a#b",
        "--pull",
        "host_x:5000/a",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_a_digest_needs_no_tag() -> None:
    assert parse(f"a@{DIGEST}").tag == ""
    assert parse(f"a:b@{DIGEST}").name == "docker.io/library/a"


@pytest.mark.parametrize("text", ["https://ghcr.io", "a/b", "", "a b", "a:x"])
def test_what_is_no_registry_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a registry"):
        registry(text)
