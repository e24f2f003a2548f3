"""Whether a GPU is the one asked for, and the arithmetic when there is none."""

from __future__ import annotations

import pytest

from flyted.contract.gpu import Ask, of_device
from flyted.plan.gpus.facts import Inventory
from flyted.plan.gpus.match import grantable, impossible, is_product
from tests.plan.gpus import GIB, gpu, machine

PART = gpu("MIG-1", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", 5, profile="1g.5gb", capabilities=(21, 22))
SPLIT = gpu("GPU-a", "NVIDIA A100-SXM4-40GB", 40, split=True, partitions=(PART,))


@pytest.mark.parametrize(
    ("device", "product", "gib", "same"),
    [
        ("nvidia-l40s", "NVIDIA L40S", 45, True),
        ("nvidia-l4", "NVIDIA L40S", 45, False),
        ("nvidia-l4", "NVIDIA L4", 22, True),
        ("nvidia-tesla-t4", "Tesla T4", 15, True),
        ("nvidia-a10", "NVIDIA A10G", 22, False),
        ("nvidia-tesla-a100", "NVIDIA A100-SXM4-40GB", 40, True),
        ("nvidia-tesla-a100", "NVIDIA A100-SXM4-80GB", 80, True),
        ("nvidia-a100-80gb", "NVIDIA A100-SXM4-80GB", 80, True),
        ("nvidia-a100-80gb", "NVIDIA A100 80GB PCIe", 80, True),
        ("nvidia-a100-80gb", "NVIDIA A100-SXM4-40GB", 40, False),
        ("nvidia-a100-80gb", "NVIDIA A100-PCIE", 80, True),
        ("nvidia-a100-80gb", "NVIDIA A100-PCIE", 40, False),
        ("nvidia-tesla-h100", "NVIDIA H100 80GB HBM3", 80, True),
        ("H200", "NVIDIA H200", 141, True),
        ("H200", "NVIDIA GH200 480GB", 96, False),
        ("RTX PRO 6000", "NVIDIA RTX PRO 6000 Blackwell Server Edition", 96, True),
        ("RTX PRO 6000", "NVIDIA RTX 6000 Ada Generation", 48, False),
        ("RTX 4080", "NVIDIA GeForce RTX 4080 SUPER", 16, False),
        ("RTX 3080", "NVIDIA GeForce RTX 3080 Ti", 12, False),
        ("", "whatever", 1, True),
    ],
)
def test_a_name_means_its_product(device: str, product: str, gib: int, same: bool) -> None:
    """Whole words, in order; sizes by name, else by memory; a Ti is another product."""
    assert is_product(of_device(device, 1).name, product, gib * GIB) is same


def test_what_can_be_granted() -> None:
    """Whole GPUs that work and are not split; of split ones the partitions of the profile."""
    broken = gpu("GPU-x", error="GPU is lost")
    there = machine(gpu("GPU-1"), broken, SPLIT)
    assert [d.uuid for d in grantable(Ask(1), there)] == ["GPU-1"]
    assert [d.uuid for d in grantable(Ask(1, "A100", "1g.5gb"), there)] == ["MIG-1"]
    assert grantable(Ask(1, "A100", "2g.10gb"), there) == []
    assert grantable(Ask(1, "A100"), there) == []


@pytest.mark.parametrize(
    ("ask", "there", "why"),
    [
        (
            Ask(1, "H100"),
            machine(gpu("1"), gpu("2")),
            "needs 1 × H100; this machine has none: 2 × NVIDIA L40S (45.0 GiB)",
        ),
        (Ask(3), machine(gpu("1"), gpu("2")), "needs 3 × GPU; this machine has 2: 2 × NVIDIA L40S (45.0 GiB)"),
        (
            Ask(2),
            machine(gpu("1"), gpu("2", "Tesla T4", 15)),
            "needs 2 × GPU; this machine has 2: 1 × NVIDIA L40S (45.0 GiB), 1 × Tesla T4 (15.0 GiB)",
        ),
        (
            Ask(1, "A100"),
            machine(SPLIT),
            "needs 1 × A100; this machine has none: 1 × NVIDIA A100-SXM4-40GB (40.0 GiB; split into 1 × 1g.5gb)",
        ),
        (
            Ask(1),
            machine(gpu("1", error="GPU is lost")),
            "needs 1 × GPU; this machine has none: 1 × NVIDIA L40S (45.0 GiB; GPU is lost)",
        ),
        (Ask(1), Inventory(reason="no driver"), "needs 1 × GPU; this machine has none: no driver"),
        (Ask(1), machine(), "needs 1 × GPU; this machine has none: its driver 580.95.05 finds no GPU"),
        (Ask(2, "L40S"), machine(gpu("1"), gpu("2")), ""),
        (Ask(1, "A100", "1g.5gb"), machine(SPLIT), ""),
    ],
)  # fmt: skip
def test_the_arithmetic_of_what_cannot_be(ask: Ask, there: Inventory, why: str) -> None:
    """Counted per product: an app's several GPUs are of one."""
    assert impossible(ask, there) == why
