"""Builds the seccomp filter of every step: no mount, no namespace, no call that needs much trust.

The unit has a filter too (plan/images/layer_unit.py). It has to permit what this program does before the step: mounts
and namespaces. So this one closes these behind it. Numbers are from asm/unistd_64.h and asm-generic/unistd.h.

Nor may a step reserve space that it does not write: fallocate(2) takes the whole disk at once, long before room.py
looks again. It fails with EOPNOTSUPP, as on file systems that cannot reserve, so that programs write instead; so do
the requests of ioctl(2) that do the same on every file system (fs/ioctl.c).
"""

from __future__ import annotations

import struct

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_X32 = 0x40000000  # a second set of numbers on x86_64
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_NAMESPACES = 0x7E020080  # every CLONE_NEW… flag of clone(2)
_FALLOCATE = {"x86_64": 285, "aarch64": 47}
_PUNCH_HOLE = 0x02  # linux/falloc.h: it frees space
_IOCTL = {"x86_64": 16, "aarch64": 29}
_RESERVE = (0x40305828, 0x4030582A, 0x40305839)  # linux/falloc.h: FS_IOC_RESVSP, FS_IOC_RESVSP64, FS_IOC_ZERO_RANGE
_ALLOW = 0x7FFF0000  # linux/seccomp.h: SECCOMP_RET_…, with the error
_EPERM, _ENOSYS, _EOPNOTSUPP = 0x50001, 0x50026, 0x5005F
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h
# Offsets in struct seccomp_data; both machines are little-endian.
_NUMBER, _MACHINE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24

DENIED: dict[str, tuple[int, int]] = {  # name: its number on x86_64, on aarch64
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "open_tree_attr": (467, 467),
    "unshare": (272, 97), "setns": (308, 268),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262), "quotactl": (179, 60), "quotactl_fd": (443, 443), "swapon": (167, 224),
    "swapoff": (168, 225), "reboot": (169, 142), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "syslog": (103, 116),
    "acct": (163, 89), "vhangup": (153, 58), "sethostname": (170, 161), "setdomainname": (171, 162),
}  # fmt: skip
"""The system calls that fail with EPERM in every step."""


def filter_of(machine: str) -> bytes:
    """Return the filter for this kind of machine, as an array of ``struct sock_filter``.

    clone3(2) fails with ENOSYS: its flags lie in memory, which a filter cannot read, and libraries then use clone(2).
    """
    column = ("x86_64", "aarch64").index(machine)
    code = [(_LOAD, 0, 0, _MACHINE), (_EQUAL, 1, 0, _ARCH[machine]), (_RETURN, 0, 0, _EPERM), (_LOAD, 0, 0, _NUMBER)]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _ENOSYS)]
    code += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ENOSYS)]
    for numbers in DENIED.values():
        code += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _EPERM)]
    code += [
        (_EQUAL, 0, 4, _FALLOCATE[machine]), (_LOAD, 0, 0, _SECOND_ARGUMENT), (_ANY_BIT, 0, 1, _PUNCH_HOLE),
        (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _EOPNOTSUPP),
        (_EQUAL, 0, 3 + len(_RESERVE), _IOCTL[machine]), (_LOAD, 0, 0, _SECOND_ARGUMENT),
        *((_EQUAL, len(_RESERVE) - at, 0, request) for at, request in enumerate(_RESERVE)), (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _EOPNOTSUPP),
        (_EQUAL, 0, 3, _CLONE[machine]), (_LOAD, 0, 0, _FIRST_ARGUMENT), (_ANY_BIT, 0, 1, _NAMESPACES),
        (_RETURN, 0, 0, _EPERM), (_RETURN, 0, 0, _ALLOW),
    ]  # fmt: skip
    return b"".join(struct.pack("HBBI", *each) for each in code)
