"""What is said when an app is served, beyond what its engine brings (engines/test_shape, engines/test_sleep)."""

from __future__ import annotations

from flyted.contract.app import SecretUse
from flyted.plan.facts import Capacity
from flyted.plan.notes import notes
from tests.values import MACHINE, spec


def test_more_than_the_machine_has_is_said() -> None:
    """On a cluster such an app would wait for a larger machine; what it really needs nobody knows."""
    said = list(notes(spec(memory_bytes=900 << 30, cpu_cores=64.0), MACHINE))
    assert said == [
        "memory=900.0 GiB is more than this machine has (24.0 GiB): it has no effect",
        "cpu=64 is more than this machine has (2): it has no effect",
    ]
    assert list(notes(spec(memory_bytes=24 << 30, cpu_cores=2.0), MACHINE)) == []
    assert list(notes(spec(), Capacity(1 << 30, 1))) == []  # the default of flyted is nobody's wish


def test_the_open_paths_of_an_engine_are_counted_not_listed() -> None:
    """vLLM has seventeen: three say what they are, `app get` shows the rest."""
    keyed = spec(command=("vllm", "serve", "m", "--api-key", "$K"), secrets=(SecretUse("K", env="K"),), port=8080)
    said = [note for note in notes(keyed, MACHINE) if "public paths" in note]
    assert len(said) == 1
    assert said[0].startswith("public paths (its API key required): /v1, ")
    assert "more (flytectl app get); to open others: --open-path PATH" in said[0]


def test_what_the_file_does_not_get_is_said() -> None:
    """In the words of the border where the file was read."""
    assert list(notes(spec(unmet=("replicas=(0, 5): flyted runs at most one replica",)), MACHINE)) == [
        "replicas=(0, 5): flyted runs at most one replica"
    ]
