"""What registries say about images: taken only as the specifications have it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flyted.registry.failed import Failed
from flyted.registry.manifest import (
    DOCKER_INDEX,
    LAYERS,
    MOST_LAYERS,
    OCI_INDEX,
    OCI_MANIFEST,
    Blob,
    Manifest,
    config_of,
    manifest_or_choice,
)
from flyted.registry.words import EX_DATAERR, EX_UNFIT

AMD = "linux/amd64"
DIGEST = "sha256:" + "a" * 64
CONFIG = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": DIGEST, "size": 5}
LAYER = {"mediaType": LAYERS[1], "digest": DIGEST, "size": 7}


def read(**document: Any) -> Manifest | Blob:
    return manifest_or_choice(json.dumps({"schemaVersion": 2, **document}).encode(), AMD)


def entry(os: str = "linux", architecture: str = "amd64", **more: Any) -> dict[str, Any]:
    return {
        "mediaType": OCI_MANIFEST,
        "digest": DIGEST,
        "size": 9,
        "platform": {"os": os, "architecture": architecture},
        **more,
    }


@pytest.mark.parametrize("media", LAYERS)
def test_a_manifest(media: str) -> None:
    found = read(config=CONFIG, layers=[{**LAYER, "mediaType": media}])
    assert isinstance(found, Manifest)
    assert found.layers == (Blob(DIGEST, media, 7),)


@pytest.mark.parametrize("kind", [OCI_INDEX, DOCKER_INDEX, None])
def test_an_index_has_one_for_each_platform(kind: str | None) -> None:
    other = "sha256:" + "b" * 64
    entries = [entry("unknown", "unknown"), entry(architecture="arm64", digest=other), entry(), entry(digest=other)]
    assert read(mediaType=kind, manifests=entries) == Blob(DIGEST, OCI_MANIFEST, 9)


def test_a_platform_that_is_not_there_is_named() -> None:
    entries = [entry(architecture="arm64"), entry("windows"), entry("unknown", "unknown"), {"digest": DIGEST}]
    with pytest.raises(Failed, match="not made for linux/amd64, only for linux/arm64, windows/amd64"):
        read(manifests=entries)


@pytest.mark.parametrize(
    ("document", "said", "status"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, "schema 1", EX_UNFIT),
        ({"schemaVersion": 1, "config": CONFIG, "layers": [LAYER]}, "schema 1", EX_UNFIT),
        ({"config": CONFIG, "layers": [LAYER], "manifests": [entry()]}, "not an image", EX_UNFIT),  # CVE-2021-41190
        ({"mediaType": OCI_INDEX, "config": CONFIG, "layers": [LAYER]}, "not an image", EX_UNFIT),
        ({"mediaType": OCI_MANIFEST, "manifests": [entry()]}, "not an image", EX_UNFIT),
        ({}, "not an image", EX_UNFIT),
        ({"mediaType": "\x1b[2J", "layers": []}, "not an image", EX_UNFIT),
        (
            {"config": {**CONFIG, "mediaType": "application/vnd.cncf.helm.config.v1+json"}, "layers": []},
            "helm",
            EX_UNFIT,
        ),
        (
            {
                "config": CONFIG,
                "layers": [{**LAYER, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}],
            },
            "cannot be unpacked",
            EX_UNFIT,
        ),
        (
            {"config": CONFIG, "layers": [{**LAYER, "mediaType": LAYERS[1] + "+encrypted"}]},
            "cannot be unpacked",
            EX_UNFIT,
        ),
        ({"config": CONFIG, "layers": [LAYER] * (MOST_LAYERS + 1)}, "more than", EX_UNFIT),
        ({"config": CONFIG, "layers": [{**LAYER, "size": -1}]}, "damaged", EX_DATAERR),
        ({"config": CONFIG, "layers": [{**LAYER, "size": 1 << 63}]}, "damaged", EX_DATAERR),
        ({"config": CONFIG, "layers": [{**LAYER, "size": 10**400}]}, "damaged", EX_DATAERR),  # no float holds it
        ({"manifests": [entry(size=10**400)]}, "damaged", EX_DATAERR),
        ({"config": CONFIG, "layers": [{**LAYER, "size": "7"}]}, "damaged", EX_DATAERR),
        ({"config": CONFIG, "layers": [{**LAYER, "size": True}]}, "damaged", EX_DATAERR),
        ({"config": CONFIG, "layers": [{**LAYER, "digest": "sha256:../../etc/passwd"}]}, "damaged", EX_DATAERR),
        ({"config": CONFIG, "layers": [{**LAYER, "digest": DIGEST + "/"}]}, "damaged", EX_DATAERR),
        ({"config": CONFIG, "layers": [{**LAYER, "digest": "sha512:" + "a" * 128}]}, "damaged", EX_DATAERR),
        ({"config": CONFIG, "layers": [None]}, "damaged", EX_DATAERR),
        ({"config": CONFIG, "layers": {}}, "more than", EX_UNFIT),
        ({"config": [], "layers": []}, "damaged", EX_DATAERR),
        ({"manifests": {}}, "damaged", EX_DATAERR),
        ({"manifests": [entry()] * 1001}, "damaged", EX_DATAERR),
        ({"manifests": [None, 5, entry(digest=5)]}, "damaged", EX_DATAERR),
    ],
)
def test_it_is_refused_by_name(document: dict[str, Any], said: str, status: int) -> None:
    with pytest.raises(Failed, match=said) as caught:
        read(**document)
    assert caught.value.status == status
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 100_000, b"\xff", b'{"a":' + b"9" * 5000 + b"}", b"null"])
def test_what_is_no_document_is_damaged(data: bytes) -> None:
    with pytest.raises(Failed, match="damaged"):
        manifest_or_choice(data, AMD)
    with pytest.raises(Failed, match="damaged"):
        config_of(data, AMD, 1)


def config(**changed: Any) -> bytes:
    return json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"diff_ids": [DIGEST]},
            "config": {"User": "www"},
            **changed,
        }
    ).encode()


def test_a_config() -> None:
    assert config_of(config(), AMD, 1) == ({"User": "www"}, [DIGEST])
    assert config_of(config(config=None), AMD, 1) == ({}, [DIGEST])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"architecture": "arm64"}, "for linux/arm64, and this machine is linux/amd64"),
        ({"os": "windows"}, "for windows/amd64"),
        ({"rootfs": {"diff_ids": []}}, "names 0 layers, its manifest 1"),
        ({"rootfs": {"diff_ids": [1]}}, "damaged"),
        ({"rootfs": {"diff_ids": 5}}, "damaged"),
        ({"rootfs": None}, "damaged"),
        ({"config": 5}, "damaged"),
    ],
)
def test_a_config_that_does_not_fit(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(Failed, match=said):
        config_of(config(**changed), AMD, 1)
