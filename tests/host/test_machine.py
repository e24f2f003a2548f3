"""What this machine is, as its own programs say it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flyted.host import machine


def test_it_is_named_as_its_own_programs_name_it() -> None:
    """An image is for one of them: its wheels are compiled."""
    assert machine.architecture() == subprocess.check_output(["uname", "-m"], text=True).strip()
    assert machine.libc().startswith("glibc 2.")
    assert Path("/usr/bin", f"python{machine.system_python()}").exists()


def test_files_of_the_system_are_found_by_pattern() -> None:
    """One part of a path may differ from machine to machine."""
    assert machine.has("/proc/self/stat")
    assert machine.has("/proc/se*/stat")
    assert not machine.has("/proc/self/no-such-*")


def test_switches_of_the_kernel_are_read_by_name() -> None:
    """Another kernel may have none of that name."""
    assert machine.switches(["kernel/ostype", "kernel/no_such_switch"]) == {"kernel/ostype": "Linux"}


def test_apparmors_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their names may have blanks in them; a kernel without AppArmor has no such file."""
    monkeypatch.setattr(machine, "_PROFILES", tmp_path / "profiles")
    assert machine.apparmor_profiles() == frozenset()
    (tmp_path / "profiles").write_text("flyted (unconfined)\nMongoDB Compass (unconfined)\n/usr/bin/man (enforce)\n")
    assert machine.apparmor_profiles() == {"flyted", "MongoDB Compass", "/usr/bin/man"}
