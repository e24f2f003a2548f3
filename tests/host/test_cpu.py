"""What the control groups of services count, from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

from flyted.host.cpu import cpu_s

STAT = "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n"


def test_the_cpu_time_of_services_that_run(tmp_path: Path) -> None:
    """In seconds; a service without a group, or with one that cannot be read, is passed over."""
    for name, text in (("a.service", STAT), ("b.service", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cpu.stat").write_text(text)
    assert cpu_s(["a.service", "b.service", "c.service"], tmp_path) == {"a.service": 2.5}
