"""Makes the stacked layers the root of the step, with devices, /proc and /sys, and flyted's tools below /run.

Nothing of that stays in the layer: each is a mount of its own. /run is empty in every step; /tmp is the image's. The
machine's files are named relative to its root, which is the working folder until :func:`leave_machine`; what is
mounted on is named by absolute paths, in which links lead nowhere but into the image.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

from . import kernel, overlay

TOOLS = "/run/flyted"
BIN, ETC, AUTHORITIES = f"{TOOLS}/bin", f"{TOOLS}/etc", f"{TOOLS}/authorities.crt"
APT, WGET = f"{TOOLS}/apt.conf", f"{TOOLS}/wgetrc"
HOSTNAME = "flyted-build"
HOSTS = f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost\n"
SYSTEM_AUTHORITIES, SYSTEM_WGET = "/etc/ssl/certs/ca-certificates.crt", "/etc/wgetrc"
_TMPFS = kernel.NOSUID | kernel.NODEV
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
_READ_ONLY = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")
_HIDDEN = ("kcore", "keys", "key-users", "kallsyms", "kmsg", "timer_list", "sched_debug", "interrupts", "acpi", "scsi")
_CONFIGURATION = {"/etc/uv/uv.toml": "uv/uv.toml", "/etc/pip.conf": "pip/pip.conf"}
"""The machine's files that say from where packages come, and their names below ``XDG_CONFIG_DIRS``."""

_NAMES_FILE = re.compile(
    r'Acquire::https::(?:.*::)?(?P<kind>CAInfo|CRLFile|IssuerCert|SslCert|SslKey) "(?P<path>.*)";'
)


def enter(uv: str) -> None:
    """Make the stacked layers the root of a command. The working folder is the machine's root afterwards."""
    apt, authorities = without_files(apt_settings())
    authorities = _own(SYSTEM_AUTHORITIES) + authorities
    resolver = b""
    with contextlib.suppress(FileNotFoundError):  # of a machine without a network
        resolver = Path("/etc/resolv.conf").read_bytes()
    uv = os.path.realpath(uv)
    socket.sethostname(HOSTNAME)
    change_root()
    devices("")
    for name, target in _LINKS.items():
        os.symlink(target, f"/dev/{name}")
    _processes()
    kernel.bind("sys", "/sys")
    kernel.mount("tmpfs", "/run", "tmpfs", _TMPFS, "mode=755,size=256m")
    _tools(uv, authorities, apt)
    _file("/etc/resolv.conf", resolver)
    _file("/etc/hosts", HOSTS.encode())


def change_root() -> None:
    """Make the stacked layers the root; the working folder is the machine's root afterwards."""
    machine = os.open("/", os.O_PATH | os.O_DIRECTORY)
    os.chdir(overlay.ROOT)
    kernel.pivot()
    os.fchdir(machine)
    os.close(machine)


def leave_machine() -> None:
    """Unmount the machine's files."""
    kernel.umount(".")
    os.chdir("/")


def devices(root: str) -> None:
    """Mount a /dev with the harmless devices only, below ``root``; the working folder is the machine's root."""
    dev = f"{root}/dev"
    kernel.mount("tmpfs", dev, "tmpfs", kernel.NOSUID | kernel.NOEXEC, "mode=755,size=1m")
    for name in _DEVICES:
        place(f"{dev}/{name}", folder=False)
        kernel.bind(f"dev/{name}", f"{dev}/{name}", writable=True)
    for name, kind, options in (("shm", "tmpfs", "mode=1777,size=256m"), ("pts", "devpts", _PTS)):
        os.mkdir(f"{dev}/{name}")
        kernel.mount(kind, f"{dev}/{name}", kind, kernel.NOSUID | kernel.NOEXEC, options)


_PTS = "newinstance,ptmxmode=0666,mode=620"


def place(target: str, *, folder: bool) -> str:
    """Return the path that ``target`` leads to in this root; a folder or an empty file is made there if nothing is."""
    path = Path(os.path.realpath(target))
    if path.exists():
        return str(path)
    if folder:
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(path)


def tools_environment() -> dict[str, str]:
    """Return the variables by which programs of the image find the files in :data:`TOOLS`.

    wget, and apt before Debian 13, know no variable for authorities: two of them name a file with the setting instead,
    which the image's own settings overrule. One is for uv, which gives a Python only a minute to begin: too little
    where apps, which come first, are busy.
    """
    trusted = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS")
    authorities = {**dict.fromkeys(trusted, AUTHORITIES), "SYSTEM_WGETRC": WGET}
    return {
        **(authorities if os.path.exists(AUTHORITIES) else {}),
        "APT_CONFIG": APT,
        "UV_COMPILE_BYTECODE_TIMEOUT": "900",
        "XDG_CONFIG_DIRS": f"{ETC}:/etc/xdg",
    }


def apt_settings(more: Iterable[str] = ()) -> bytes:
    """Return how apt of this machine reaches its mirrors (proxies, retries), as an apt.conf(5); empty without apt."""
    try:
        done = subprocess.run(["/usr/bin/apt-config", "dump"], capture_output=True, text=True, check=False)
    except OSError:
        return b""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check", "Acquire::Retries", "Acquire::ForceIPv")
    lines = [line for line in done.stdout.splitlines() if line.startswith(wanted)]
    return "".join(f"{line}\n" for line in [*lines, *more]).encode()


def without_files(settings: bytes) -> tuple[bytes, bytes]:
    """Return apt's settings without those that name a file of the machine, and the authorities that it trusts by them.

    A step trusts these in the same way (:data:`AUTHORITIES`). It gets no certificate by which the machine itself is
    known to a mirror, since its key would be readable in the step.
    """
    lines, trusted = [], b""
    for line in settings.splitlines(keepends=True):
        found = _NAMES_FILE.match(line.decode(errors="replace"))
        if found is None:
            lines.append(line)
        elif found["kind"] == "CAInfo":
            trusted += _own(found["path"])
    return b"".join(lines), trusted


def _processes() -> None:
    """Mount /proc: of the step's own processes, where the kernel permits it.

    It does not inside a container, whose own /proc is partly hidden ("mount too revealing"): then the unit's is shown.
    """
    try:
        kernel.mount("proc", "/proc", "proc", kernel.NOSUID | kernel.NODEV | kernel.NOEXEC)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        kernel.bind("proc", "/proc", writable=True)
    for path in filter(os.path.exists, _READ_ONLY):
        kernel.bind(path, path)
    for path in (f"/proc/{name}" for name in _HIDDEN):
        if os.path.isdir(path):
            kernel.mount("tmpfs", path, "tmpfs", _TMPFS | kernel.RDONLY, "size=4k")
        elif os.path.exists(path):
            kernel.bind("/dev/null", path, writable=True)


def _tools(uv: str, authorities: bytes, apt: bytes) -> None:
    kernel.bind(uv.lstrip("/"), place(f"{BIN}/uv", folder=False))
    for source, name in _CONFIGURATION.items():
        if os.path.isfile(source.lstrip("/")):
            kernel.bind(source.lstrip("/"), place(f"{ETC}/{name}", folder=False))
    if authorities:
        Path(AUTHORITIES).write_bytes(authorities + _own(SYSTEM_AUTHORITIES))
        Path(WGET).write_bytes(f"ca_certificate = {AUTHORITIES}\n".encode() + _own(SYSTEM_WGET))
        apt = f'Acquire::https::CAInfo "{AUTHORITIES}";\n'.encode() + apt
    Path(APT).write_bytes(apt)


def _own(path: str) -> bytes:
    """Return what a file of the image has, if there is one."""
    own = Path(path)
    return own.read_bytes() if own.is_file() else b""


def _file(target: str, content: bytes) -> None:
    """Show a file with this content, if the image has one there, even if it is a link into the empty /run."""
    source = Path(f"{TOOLS}{target}")
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(content)
    kernel.bind(str(source), place(target, folder=False), writable=True)
