"""What a stranger's step can reach: run as root of an image, by the image's Python; one line for each attempt.

A line is "NAME refused …" if the kernel said no, and "NAME open …" if it did not.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {  # of system calls, on x86_64 and aarch64
    "bpf": (321, 280), "keyctl": (250, 219), "add_key": (248, 217), "io_uring_setup": (425, 425),
    "init_module": (175, 105), "clone3": (435, 435), "open_tree": (428, 428), "fsopen": (430, 430),
    "move_mount": (429, 429), "mount_setattr": (442, 442), "open_by_handle_at": (304, 265), "pivot_root": (155, 41),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "syslog": (103, 116), "process_vm_readv": (310, 270),
    "kexec_load": (246, 104), "quotactl": (179, 60), "swapon": (167, 224), "pidfd_getfd": (438, 438),
}  # fmt: skip


SOCKETS = (
    *(f"/run/flyted/{name}.sock" for name in ("control", "credentials", "admin", "api", "gateway", "gpu")),
    "/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket",
    *(f"/run/systemd/{name}" for name in ("private", "notify", "journal/socket", "journal/stdout", "journal/dev-log")),
    "/run/systemd/userdb/io.systemd.DynamicUser", "/run/udev/control", "/dev/log", "/run/docker.sock",
)  # fmt: skip
MOST_OWN = 6


class Refused(Exception):
    """The kernel said no."""


def listed(path: str) -> list[str]:
    """The names in a folder."""
    return [each.name for each in Path(path).iterdir()]


def call(result: int) -> str:
    """The result of a call of the C library."""
    if result < 0:
        raise Refused(os.strerror(ctypes.get_errno()))
    return str(result)


def system_call(name: str, *words: Any) -> str:
    """A system call by its number."""
    return call(libc.syscall(NUMBERS[name][platform.machine() == "aarch64"], *words))


def apart(work: Callable[[], str]) -> str:
    """What ``work`` finds in a process of its own, which it may spoil."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = work()
        except (OSError, Refused) as error:
            said = f"!{error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    said = os.read(reading, 4000).decode()
    os.waitpid(child, 0)
    if said.startswith("!"):
        raise Refused(said[1:])
    return said


def seen(paths: list[str]) -> str:
    """Those of the paths that are there."""
    found = [path for path in paths if os.path.lexists(path)]
    if not found:
        raise Refused("nothing there")
    return str(found)


def out_of_two_roots() -> str:
    """chroot(2), NOTES: out of a root by a folder that was opened outside it."""
    Path("/e").mkdir(exist_ok=True)
    folder = os.open("/", os.O_RDONLY)
    os.chroot("/e")
    os.fchdir(folder)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    return seen(["/checkout", "/var/lib/flyted", "/run/systemd", "/e/../checkout"])


def signals() -> str:
    """Whom this process may signal, by the numbers that it knows and all others."""
    own = {os.getpid(), os.getppid(), 1}
    hit = [number for number in range(2, 70_000) if number not in own and libc.kill(number, 0) == 0]
    if not hit:
        raise Refused("nobody")
    return str(hit)


def sockets_of_the_machine() -> str:
    """Abstract sockets of this network namespace."""
    names = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()[1:] if "@" in line]
    if not names:
        raise Refused("none")
    return str(names)


def loopback() -> str:
    """A connection to a service of the machine's."""
    with socket.create_connection(("127.0.0.1", 443), 3):
        return "connected"


def metadata() -> str:
    """A connection to the metadata service of a cloud."""
    with socket.create_connection(("169.254.169.254", 80), 3):
        return "connected"


def roots_of_processes() -> str:
    """The root of any process that is seen."""
    numbers = [each for each in listed("/proc") if each.isdigit()]
    found = []
    for number in numbers:
        try:
            found += [number for each in ("checkout", "run/systemd") if os.path.lexists(f"/proc/{number}/root/{each}")]
            found += [f"{number}/fd" for each in listed(f"/proc/{number}/fd") if _leads_out(number, each)]
        except OSError:
            continue
    if not found:
        raise Refused("none")
    return str(found)


def _leads_out(number: str, descriptor: str) -> bool:
    return os.path.lexists(f"/proc/{number}/fd/{descriptor}/../diff")


def connect(path: str) -> str:
    """A connection to a socket of the machine's, of either kind."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as each:
            try:
                each.connect(path)
            except OSError as error:
                said = str(error)
            else:
                return "connected"
    raise Refused(said)


def interfaces() -> str:
    """Networks of the machine, beside the step's own and its loopback."""
    names = {name for _number, name in socket.if_nameindex()}
    if names <= {"lo", "eth0"}:
        raise Refused(f"its own: {sorted(names)}")
    return str(sorted(names))


def processes() -> str:
    """Processes of others: its own are a shell, this one, and what began them."""
    numbers = [each for each in listed("/proc") if each.isdigit()]
    if len(numbers) <= MOST_OWN:
        raise Refused(f"its own: {numbers}")
    return str(len(numbers))


def write(path: str, text: str) -> str:
    """Write to a file that only the machine's root may."""
    with Path(path).open("w") as file:
        file.write(text)
    return "written"


def device(kind: int, major: int, minor: int) -> str:
    """Make a device, and open it."""
    path = f"/device-{major}-{minor}"
    os.mknod(path, kind | 0o600, os.makedev(major, minor))
    os.close(os.open(path, os.O_RDONLY))
    return "opened"


def layers_marks() -> str:
    """Set a mark of the overlay's own: a redirect would show files of other layers."""
    Path("/marked").mkdir(exist_ok=True)
    os.setxattr("/marked", "user.overlay.redirect", b"/../../../..")
    seen_there = listed("/marked")
    if not seen_there:
        raise Refused("without effect")
    return str(seen_there)


def unmount(path: str) -> str:
    """Take something of ours away."""
    return call(libc.umount2(path.encode(), 2))


def mount(source: str | None, target: str, kind: str | None, flags: int) -> str:
    """mount(2)."""
    encoded = [word.encode() if word else None for word in (source, target, kind)]
    return call(libc.mount(*encoded, ctypes.c_ulong(flags), None))


def namespaces(flags: int) -> str:
    """New namespaces, and a mount in them."""
    return apart(lambda: call(libc.unshare(flags)) + mount("t", "/mnt", "tmpfs", 0))


def terminal() -> str:
    """Type on whatever terminal there is."""
    import fcntl

    with Path("/dev/tty").open("wb") as tty:
        fcntl.ioctl(tty, 0x5412, b"x")
    return "typed"


ATTEMPTS: dict[str, Callable[[], str]] = {
    "double chroot": lambda: apart(out_of_two_roots),
    "signal others": signals,
    "roots and files of processes": roots_of_processes,
    "ptrace init": lambda: call(libc.ptrace(16, 1, 0, 0)),
    "read init": lambda: str(len(Path("/proc/1/mem").read_bytes())),
    "environment of init": lambda: Path("/proc/1/environ").read_text(),
    "block device": lambda: device(0o60000, 254, 0),
    "memory device": lambda: device(0o20000, 1, 1),
    "null device": lambda: device(0o20000, 1, 3),
    "mount tmpfs": lambda: mount("t", "/mnt", "tmpfs", 0),
    "mount proc": lambda: mount("p", "/mnt", "proc", 0),
    "mount overlay": lambda: mount("o", "/mnt", "overlay", 0),
    "remount root": lambda: mount(None, "/", None, 32),
    "bind": lambda: mount("/etc", "/mnt", None, 4096),
    "remount /proc/sys": lambda: mount(None, "/proc/sys", None, 32 | 4096),
    "unmount /etc/resolv.conf": lambda: unmount("/etc/resolv.conf"),
    "unmount /proc": lambda: unmount("/proc"),
    "unmount root": lambda: unmount("/"),
    "user namespace": lambda: apart(lambda: call(libc.unshare(0x10000000))),
    "user and mount namespace": lambda: namespaces(0x10020000),
    "mount namespace": lambda: namespaces(0x20000),
    "network namespace": lambda: apart(lambda: call(libc.unshare(0x40000000))),
    "clone3": lambda: system_call("clone3", 0, 88),
    "enter init's mounts": lambda: call(libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0)),
    "write core_pattern": lambda: write("/proc/sys/kernel/core_pattern", "|/x"),
    "write hostname": lambda: write("/proc/sys/kernel/hostname", "x"),
    "write sysrq": lambda: write("/proc/sysrq-trigger", "h"),
    "write cgroup": lambda: write("/sys/fs/cgroup/cgroup.procs", "1"),
    "delegate cgroup": lambda: write("/sys/fs/cgroup/cgroup.subtree_control", "+pids"),
    "write /sys": lambda: write("/sys/kernel/mm/ksm/run", "0"),
    "read kcore": lambda: str(os.pread(os.open("/proc/kcore", os.O_RDONLY), 9, 0) or 1 / 0),
    "host files": lambda: seen(["/var/lib/flyted", "/run/dbus", "/checkout", "/run/systemd", "/run/flyted/apps"]),
    "abstract sockets": sockets_of_the_machine,
    **{f"socket {path}": partial(connect, path) for path in SOCKETS},
    "interfaces": interfaces,
    "processes": processes,
    "loopback of the machine": loopback,
    "metadata service": metadata,
    "packet socket": lambda: str(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)),
    "kernel's cryptography": lambda: str(socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET, 0)),
    "vsock": lambda: str(socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM, 0)),
    "name the machine": lambda: call(libc.sethostname(b"x", 1)),
    "overlay's marks": layers_marks,
    "terminal": terminal,
    "nice": lambda: call(libc.setpriority(0, 0, -10)),
    "realtime": lambda: call(libc.sched_setscheduler(0, 1, ctypes.byref(ctypes.c_int(1)))),
    **{name: partial(system_call, name, 0, 0, 0, 0, 0) for name in NUMBERS if name != "clone3"},
}

if __name__ == "__main__":
    signal.alarm(120)
    for name, attempt in ATTEMPTS.items():
        try:
            said = f"open {attempt()}"
        except (OSError, Refused, ZeroDivisionError) as error:
            said = f"refused {error}"
        sys.stdout.write(f"{name}: {said}\n".replace("\0", " "))
        sys.stdout.flush()
