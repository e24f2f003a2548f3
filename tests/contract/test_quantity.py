"""Kubernetes quantities mean here what they mean there."""

from __future__ import annotations

import pytest

from flyted.contract import quantity
from flyted.contract.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "cores"), [("1", 1.0), ("500m", 0.5), ("1.5", 1.5), ("2e0", 2.0), (".5", 0.5), ("0.25", 0.25)]
)
def test_cpu(text: str, cores: float) -> None:
    """CPU in cores."""
    assert quantity.cpu_cores(text) == cores


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512Mi", 512 << 20),
        ("1Gi", 1 << 30),
        ("2G", 2 * 10**9),
        ("1.5Gi", 3 << 29),
        ("1073741824", 1 << 30),
        ("1e9", 10**9),
    ],
)
def test_memory(text: str, size: int) -> None:
    """Memory in bytes."""
    assert quantity.memory_bytes(text) == size


@pytest.mark.parametrize("text", ["512MB", "", "1 Gi", "-1Gi", "Gi", "1Gi\n", "1e99", "0", "1Ti" * 9, "٣Gi"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    """``512MB`` passes the SDK but means nothing to Kubernetes: said, not guessed."""
    with pytest.raises(InvalidInput):
        quantity.memory_bytes(text)


@pytest.mark.parametrize(("text", "seconds"), [("300s", 300.0), ("0.500s", 0.5)])
def test_durations(text: str, seconds: float) -> None:
    """protobuf-JSON's durations."""
    assert quantity.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["300", "5m", "-1s", "", "1s\n"])
def test_bad_durations(text: str) -> None:
    """Only seconds with an ``s``."""
    with pytest.raises(InvalidInput):
        quantity.duration_s(text)


def test_sizes_for_people() -> None:
    """Sizes are shown with one digit."""
    assert [quantity.human_bytes(n) for n in (5, 2048, 512 << 20, 3 << 40)] == [
        "5 B",
        "2.0 KiB",
        "512.0 MiB",
        "3.0 TiB",
    ]
