"""The filter of system calls, run as the kernel runs it, with the numbers of both kinds of machine."""

from __future__ import annotations

import platform
import re
import struct
from pathlib import Path

import pytest

from flyted.layers.failed import Failed
from flyted.layers.kernel import machine
from flyted.layers.seccomp import DENIED, filter_of

ALLOW, EPERM, ENOSYS, EOPNOTSUPP = 0x7FFF0000, 0x50001, 0x50026, 0x5005F
X86, ARM = 0xC000003E, 0xC00000B7
FALLOCATE = {"x86_64": 285, "aarch64": 47}
HEADERS = [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")]


def verdict(name: str, number: int, arch: int, argument: int = 0, second: int = 0) -> int:
    """What the kernel does with a system call (linux/bpf_common.h)."""
    data = struct.pack("=iIQ6Q", number, arch, 0, argument, second, *[0] * 4)
    code = list(struct.iter_unpack("=HBBI", filter_of(name)))
    at, loaded = 0, 0
    while True:
        operation, yes, no, value = code[at]
        at += 1
        if operation == 0x20:
            (loaded,) = struct.unpack_from("=I", data, value)
        elif operation == 0x06:
            return int(value)
        else:
            true = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[operation]
            at += yes if true else no


@pytest.mark.parametrize(("name", "arch", "column", "clone"), [("x86_64", X86, 0, 56), ("aarch64", ARM, 1, 220)])
def test_what_is_denied_and_what_is_not(name: str, arch: int, column: int, clone: int) -> None:
    """Every call of the list, new namespaces by clone, clone3; a thread and a fork are allowed, as is all else."""
    denied = {numbers[column] for numbers in DENIED.values()}
    assert {verdict(name, number, arch) for number in denied} == {EPERM}
    assert verdict(name, 435, arch) == ENOSYS
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x80):
        assert verdict(name, clone, arch, flag | 17) == EPERM
    assert verdict(name, clone, arch, 17) == verdict(name, clone, arch, 0x3D0F00) == ALLOW
    others = set(range(470)) - denied - {435, FALLOCATE[name]}
    assert {verdict(name, number, arch) for number in others} == {ALLOW}


@pytest.mark.parametrize(("name", "arch", "ioctl"), [("x86_64", X86, 16), ("aarch64", ARM, 29)])
def test_no_space_is_reserved(name: str, arch: int, ioctl: int) -> None:
    """Neither by fallocate(2) nor by ioctl(2); a hole may be made, and other requests of ioctl(2) are not touched."""
    for mode in (0, 1, 0x10, 0x11, 0x20, 0x40):
        assert verdict(name, FALLOCATE[name], arch, 3, mode) == EOPNOTSUPP
    assert verdict(name, FALLOCATE[name], arch, 3, 0x02 | 0x01) == ALLOW
    for request in (0x40305828, 0x4030582A, 0x40305839):
        assert verdict(name, ioctl, arch, 3, request) == verdict(name, ioctl, arch, 3, 1 << 32 | request) == EOPNOTSUPP
    for request in (0x5401, 0x5413, 0x4030582B, 0x40049409):
        assert verdict(name, ioctl, arch, 3, request) == ALLOW


def test_another_kind_of_call_is_denied() -> None:
    """32-bit calls of the same machine have other numbers; so have those of x32."""
    assert verdict("x86_64", 0, 0x40000003) == EPERM
    assert verdict("aarch64", 0, X86) == EPERM
    assert verdict("x86_64", 0x40000000 | 165, X86) == ENOSYS


def test_the_numbers_are_the_kernels() -> None:
    """Compared with the C library's headers, where there are some."""
    header = next((each for each in HEADERS if each.exists()), None)
    if header is None:
        pytest.skip("no headers of the kernel here (libc6-dev)")
    known = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+)\s+(\d+)", header.read_text())}
    assert {name: n[0] for name, n in DENIED.items() if name in known and known[name] != n[0]} == {}
    assert len(set(DENIED) & set(known)) > len(DENIED) - 5


def test_an_unknown_machine_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter with the wrong numbers would protect nothing."""
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(Failed, match="cannot be built on riscv64: only on x86_64 and aarch64"):
        machine()
