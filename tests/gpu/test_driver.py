"""Which files of the driver the helper finds: by specs on the disk, and by the linker's cache of this machine."""

from __future__ import annotations

import json
import os
import platform
import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flyted.gpu import driver
from flyted.gpu.driver import Driver
from flyted.gpu.elf import Library, library

VOID: dict[str, Any] = {"env": ["NVIDIA_VISIBLE_DEVICES=void"]}


def elf(soname: str = "libcuda.so.1", machine: int = 62, more: bytes = b"") -> bytes:
    """A library with a header, a dynamic section and its strings, and nothing else (elf(5))."""
    strings = b"\0" + soname.encode() + b"\0"
    at = 64 + 2 * 56
    tags = [(5, 0x1000 + at + 3 * 16), (14, 1), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *tag) for tag in tags)
    size = at + len(dynamic) + len(strings)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x1000, 0x1000, size, size, 4096)
    part = struct.pack("<IIQQQQQQ", 2, 4, at, 0x1000 + at, 0, len(dynamic), len(dynamic), 8)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    return ident + head + load + part + dynamic + strings + more


class Machine:
    """Folders of specs, and of a driver."""

    def __init__(self, folder: Path) -> None:
        self.etc, self.run, self.lib = folder / "etc", folder / "run", folder / "lib"
        for each in (self.etc, self.run, self.lib):
            each.mkdir()
        self.driver = Driver((self.etc, self.run), "x86_64", os.getuid())

    def spec(self, path: Path, *mounts: tuple[str, str], text: str = "", **edits: Any) -> None:
        """Write a spec with these mounts, from the driver's folder."""
        listed = [{"hostPath": str(self.lib / here), "containerPath": place} for here, place in mounts]
        data = {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [{"name": "0"}]}
        path.write_text(text or json.dumps({**data, "containerEdits": {"mounts": listed, **edits}}))
        path.chmod(0o644)

    def files(self) -> dict[str, Any]:
        return self.driver.files()

    def problem(self) -> str:
        (problem,) = self.files()["problems"]
        return str(problem)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine whose linker knows no library of NVIDIA's."""
    monkeypatch.setattr(driver, "_OURS", re.compile("never"))
    monkeypatch.setattr(driver, "PROGRAMS", ())
    made = Machine(tmp_path)
    (made.lib / "libcuda.so.570.1").write_bytes(elf())
    (made.lib / "nvidia-smi").write_text("#!/bin/sh\n")
    return made


LIBCUDA, SMI = ("libcuda.so.570.1", "/usr/lib/libcuda.so.570.1"), ("nvidia-smi", "/usr/bin/nvidia-smi")


def test_a_spec_in_json_or_yaml(machine: Machine) -> None:
    """Each file with its place, its path without links, and the soname that programs know it by."""
    (machine.lib / "alternative").symlink_to("libcuda.so.570.1")
    machine.spec(machine.etc / "nvidia.json", ("alternative", "/usr/lib/libcuda.so.570.1"), SMI, **VOID)
    found = machine.files()
    assert found == {
        "source": f"{machine.etc}/nvidia.json",
        "found": [
            ["/usr/lib/libcuda.so.570.1", f"{machine.lib}/libcuda.so.570.1", "libcuda.so.1"],
            ["/usr/bin/nvidia-smi", f"{machine.lib}/nvidia-smi", ""],
        ],
        "links": [], "environment": [["NVIDIA_VISIBLE_DEVICES", "void"]], "notes": [], "problems": [],
    }  # fmt: skip
    (machine.etc / "nvidia.json").rename(machine.etc / "nvidia.yaml")  # JSON is YAML
    assert machine.files() == {**found, "source": f"{machine.etc}/nvidia.yaml"}


def test_a_changed_spec_is_read_again_and_the_later_folder_wins(machine: Machine) -> None:
    """A file is read once as long as it is the same; a new one counts at once, a deleted one no more."""
    machine.spec(machine.etc / "nvidia.json", LIBCUDA)
    assert len(machine.files()["found"]) == 1
    machine.spec(machine.etc / "nvidia.json", LIBCUDA, SMI)
    assert len(machine.files()["found"]) == 2
    machine.spec(machine.run / "nvidia.json", LIBCUDA)
    assert (machine.files()["source"], len(machine.files()["found"])) == (f"{machine.run}/nvidia.json", 1)
    (machine.run / "nvidia.json").unlink()
    assert machine.files()["source"] == f"{machine.etc}/nvidia.json"


def test_a_spec_of_another_driver_does_not_count(machine: Machine) -> None:
    """After an upgrade the libraries that it lists are gone: then the linker's cache says what there is."""
    machine.spec(machine.etc / "nvidia.json", LIBCUDA, ("libnvidia-ml.so.570.1", "/usr/lib/libnvidia-ml.so.570.1"))
    found = machine.files()
    assert (found["source"], found["found"]) == ("", [])
    assert "libnvidia-ml.so.570.1', which does not exist: it belongs to another driver" in found["problems"][0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Expecting property name"),
        ("[" * 100_000, "nests too deeply"),
        ("\x80", "codec can't decode"),
        ("[]", "it is a list"),
        (json.dumps({"kind": "nvidia.com/gpu", "cdiVersion": "9.9"}), "cdiVersion '9.9', which is not known"),
        ("1" * 5000, "Exceeds the limit"),
        (" " * (1 << 20) + "[]", "larger than 1 MiB"),
    ],
)  # fmt: skip
def test_a_broken_spec_is_said_and_never_ends_the_helper(machine: Machine, text: str, said: str) -> None:
    """One printable line for each."""
    (machine.etc / "x.json").write_bytes(text.encode("latin-1"))
    problem = machine.problem()
    assert said in problem
    assert problem.startswith(f"{machine.etc}/x.json ")
    assert problem.isprintable()


@pytest.mark.parametrize(
    "text", ["a: [", "!!python/object/apply:os.system ['touch /tmp/x']", "? [a]\n: b", "a: *b", "\x00"]
)
def test_broken_yaml_is_said(machine: Machine, text: str) -> None:
    """YAML can name objects, which nobody makes of it."""
    (machine.etc / "x.yaml").write_text(text)
    assert f"{machine.etc}/x.yaml is not YAML" in machine.problem()


def test_yaml_that_multiplies_costs_nothing(machine: Machine) -> None:
    """Aliases nest a thousand million entries, which nobody writes out."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (machine.etc / "x.yaml").write_text("\n".join([*lines, "kind: nvidia.com/gpu", "cdiVersion: *a9"]))
    assert "cdiVersion a list" in machine.problem()


def test_a_spec_that_others_can_change_does_not_count(machine: Machine) -> None:
    """Nor one that cannot be read, nor anything but a file: a FIFO would wait for ever."""
    path = machine.etc / "nvidia.json"
    machine.spec(path, LIBCUDA)
    path.chmod(0o666)
    assert "can be changed by users other than root" in machine.problem()
    path.chmod(0o644)
    machine.driver.owner = 4711
    path.touch()
    assert "can be changed by users other than root" in machine.problem()
    path.unlink()
    os.mkfifo(path)
    assert "is not a file" in machine.problem()
    path.unlink()
    path.symlink_to("nowhere")
    assert "cannot be read: No such file" in machine.problem()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"INPUT(libcuda.so.1)", "not a library of 64 bits"),
        (b"", "not a library of 64 bits"),
        (elf()[:100], "damaged"),
        (elf()[:54] + b"\xff\xff\xff\xff" + elf()[58:], "damaged"),
        (elf()[:32] + b"\xff" * 7 + b"\x7f" + elf()[40:], "cannot be used"),
    ],
)
def test_a_broken_library_is_said(machine: Machine, content: bytes, said: str) -> None:
    """It is no reason not to use the others."""
    (machine.lib / "libnvidia-ml.so.1").write_bytes(content)
    machine.spec(machine.etc / "nvidia.json", LIBCUDA, ("libnvidia-ml.so.1", "/usr/lib/libnvidia-ml.so.1"))
    found = machine.files()
    assert [name for _place, _path, name in found["found"]] == ["libcuda.so.1"]
    assert said in found["problems"][0]


def test_names_that_nobody_should_use_do_not_reach_flyted(machine: Machine) -> None:
    """It would refuse the whole answer, and with it every GPU."""
    (machine.lib / "lib\n.so").write_bytes(elf())
    (machine.lib / "libcuda.so.1").symlink_to("lib\n.so")
    (machine.lib / "libnvidia-ml.so.1").write_bytes(elf("lib\x1b[31m"))
    (machine.etc / "a\n.json").write_text("[]")
    machine.spec(machine.etc / "nvidia.json", ("libcuda.so.1", "/l/libcuda.so.1"), ("libnvidia-ml.so.1", "/l/ml.so.1"))
    found = machine.files()
    assert found["found"] == [["/l/ml.so.1", f"{machine.lib}/libnvidia-ml.so.1", ""]]
    assert found["problems"] == [f"{machine.etc}/a?.json it is a list, not a map"]


def test_an_answer_has_a_limit(machine: Machine) -> None:
    """A line of 1 MiB is the most that flyted reads."""
    mounts = [("nvidia-smi", f"/{'x' * 300}/{number}") for number in range(2000)]
    machine.spec(machine.etc / "nvidia.json", *mounts)
    assert "lists too many files" in machine.problem()
    assert machine.files()["found"] == []


def test_a_library_of_another_processor_is_left_out(machine: Machine) -> None:
    """That of 32 bits, and that of ARM on x86."""
    (machine.lib / "libcuda.so.570.1").write_bytes(elf(machine=183))
    machine.spec(machine.etc / "nvidia.json", LIBCUDA, SMI)
    assert [place for place, *_ in machine.files()["found"]] == ["/usr/bin/nvidia-smi"]


def test_a_real_library_is_read() -> None:
    """The C library of this machine."""
    path = next(Path("/usr/lib").glob("*/libc.so.6"))
    assert library(path) == Library(platform.machine(), "libc.so.6")


def test_the_linkers_cache_of_this_machine_is_read(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ldconfig(8) prints it, for this processor only; a program beside it."""
    monkeypatch.setattr(driver, "_OURS", re.compile(r"libc\.so\.6"))
    monkeypatch.setattr(driver, "PROGRAMS", ("env", "no-such-program"))
    machine.driver.machine = platform.machine()
    found = machine.files()
    assert found["source"] == "ldconfig"
    assert [name for *_, name in found["found"]] == ["libc.so.6", ""]
    assert found["found"][1][0] == "/usr/bin/env"


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("libcuda.so.1", True), ("libnvidia-ml.so.1", True), ("libnvidia-ptxjitcompiler.so.1", True),
        ("libnvidia-nvvm.so.4", True), ("libnvidia-gpucomp.so.570.86.10", True), ("libGLX_nvidia.so.0", True),
        ("libcudadebugger.so.1", True), ("libnvidia-container.so.1", False), ("libnvidia-container-go.so.1", False),
        ("libcudart.so.12", False), ("libc.so.6", False), ("libnvrtc.so.12", False),
    ],
)  # fmt: skip
def test_the_drivers_libraries_are_known_by_name(name: str, ours: bool) -> None:
    """Those of the CUDA toolkit and of the container toolkit are not the driver's."""
    assert bool(driver._OURS.fullmatch(name)) is ours


def test_ldconfig_that_fails_is_said(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cache, no library; no crash."""

    def fails(*_words: Any, **_options: Any) -> None:
        raise subprocess.CalledProcessError(1, ["ldconfig"])

    monkeypatch.setattr(subprocess, "run", fails)
    assert "ldconfig -p failed" in machine.problem()
