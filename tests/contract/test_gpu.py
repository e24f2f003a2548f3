"""What an app asks of GPUs: Flyte's device strings and flytectl's flag."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract.errors import InvalidInput
from flyted.contract.gpu import Ask, of_device, of_flag, words
from tests.values import spec


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("nvidia-l40s", "L40S"),
        ("nvidia-tesla-a100", "A100"),
        ("nvidia-a100-80gb", "A100 80GB"),
        ("nvidia-tesla-t4", "T4"),
        ("H200", "H200"),
        ("RTX PRO 6000", "RTX PRO 6000"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("A100 80G", "A100 80GB"),
        ("", ""),
    ],
)
def test_flytes_devices_become_the_words_of_the_product(device: str, name: str) -> None:
    """What the SDK writes (resources_serde.py) and what a product is called lead to the same words."""
    assert of_device(device, 2) == Ask(2, name)


@pytest.mark.parametrize(
    ("text", "ask"),
    [
        ("any", Ask(1)),
        ("any:2", Ask(2)),
        ("L40s", Ask(1, "L40S")),
        ("L40S:3", Ask(3, "L40S")),
        ("A100 80G:2", Ask(2, "A100 80GB")),
        ("A100/1g.5gb", Ask(1, "A100", "1g.5gb")),
        ("RTX 4090", Ask(1, "RTX 4090")),
    ],
)
def test_the_flag_says_which_and_how_many(text: str, ask: Ask) -> None:
    """``--gpu`` as flytectl(1) has it."""
    assert of_flag(text) == ask


@pytest.mark.parametrize(
    "text", ["", ":2", "L40S:0", "L40S:x", "any:17", "L40S:-1", "L40S/evil", "A100/1g.5gb:2", "A\n100", "é", "L40S:²"]
)
def test_a_flag_that_says_nothing_is_refused(text: str) -> None:
    """A wrong count, name or partition is named."""
    with pytest.raises(InvalidInput):
        of_flag(text)


@pytest.mark.parametrize(
    "values",
    [
        {"gpu_count": -1},
        {"gpu_count": 17},
        {"gpu_count": True},
        {"gpu_count": 0, "gpu_name": "L40S"},
        {"gpu_count": 1, "gpu_name": "L40S\nDeviceAllow=/dev/sda"},
        {"gpu_count": 1, "gpu_partition": "1g.5gb; rm"},
        {"gpu_count": 2, "gpu_partition": "1g.5gb"},
    ],
)
def test_a_spec_with_an_impossible_ask_is_refused(values: dict[str, Any]) -> None:
    """What crossed a border is checked again."""
    with pytest.raises(InvalidInput):
        spec(**values)


def test_an_ask_is_told_as_people_say_it() -> None:
    """In every message."""
    assert [str(Ask(1)), str(Ask(2, "A100 80GB")), str(Ask(1, "A100", "1g.5gb"))] == [
        "1 × GPU", "2 × A100 80GB", "1 × A100 1g.5gb",
    ]  # fmt: skip


def test_words_of_a_product() -> None:
    """The maker is no word of a product, a size is one word."""
    assert words("NVIDIA A100-SXM4-80GB") == ("A100", "SXM4", "80GB")
    assert words("NVIDIA RTX PRO 6000 Blackwell Server Edition")[:3] == ("RTX", "PRO", "6000")
