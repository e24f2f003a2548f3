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
    assert list(notes(spec(unmet=("labels ('a') have no effect",)), MACHINE)) == ["labels ('a') have no effect"]


def test_what_replicas_need_together_is_said() -> None:
    """With the numbers: one fits, all do not. Also if nobody asked for that much: fewer replicas run all the same."""
    assert list(notes(spec(max_replicas=5, memory_bytes=8 << 30, cpu_cores=1.0), MACHINE)) == [
        "5 replicas with memory=8.0 GiB may take 40.0 GiB, and this machine has 24.0 GiB: at most 3 run",
        "5 replicas with cpu=1 may take 5 CPUs, and this machine has 2: they share these",
    ]
    assert list(notes(spec(max_replicas=3, memory_bytes=8 << 30), MACHINE)) == []
    assert list(notes(spec(max_replicas=12), MACHINE)) == []
    (default,) = notes(spec(max_replicas=64), MACHINE)
    assert default.startswith("64 replicas with memory=2.0 GiB, the default, may take 128.0 GiB, and this machine")
    assert default.endswith(" has 24.0 GiB: at most 12 run")
    assert "at most 4 run" in next(notes(spec(min_replicas=4, max_replicas=5), Capacity(1 << 30, 2)))
    both = list(notes(spec(max_replicas=2, memory_bytes=30 << 30), MACHINE))
    assert [said.rpartition(": ")[2] for said in both] == ["it has no effect", "at most 1 run"]
    gpus = spec(max_replicas=3, gpu_count=1)
    assert list(notes(gpus, MACHINE, gpus=2)) == [
        "3 replicas with 1 × GPU each: they run as far as this machine's 2 are free"
    ]
    assert list(notes(gpus, MACHINE, gpus=3)) == list(notes(spec(gpu_count=1), MACHINE)) == []


def test_programs_that_keep_sessions_want_the_same_replica_again() -> None:
    """Streamlit by its command, Gradio by its package too; with --sticky, or one replica, there is nothing to say."""
    streamlit = {"command": ("streamlit", "run", "main.py"), "port": 8080}
    layers = {"spec": {"layers": [{"pipPackages": {"packages": ["gradio==5.1"]}}]}}
    for name, changes in (("Streamlit", streamlit), ("Gradio", {"image": layers})):
        (said,) = notes(spec(max_replicas=2, **changes), MACHINE)
        assert said.startswith(f"{name} keeps the state of each visitor in one process: ")
        assert "--sticky" in said
        assert list(notes(spec(max_replicas=2, sticky=True, **changes), MACHINE)) == []
        assert list(notes(spec(**changes), MACHINE)) == []
    assert list(notes(spec(sticky=True), MACHINE)) == ["--sticky has no effect: this app has at most one replica"]
