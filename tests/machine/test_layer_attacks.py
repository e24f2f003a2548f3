"""A stranger's step against the machine: what it can reach, what it can take of the disk, what its archives can do."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import pytest

from flyted.layers import words
from flyted.plan.facts import UnitEnd
from flyted.plan.images.layer_unit import LAYERS
from tests.machine.kit import layers
from tests.machine.kit.escape import SOCKETS
from tests.machine.kit.layers import BASE, bundle, copy, diff, listed, make, member, name, processes, shell
from tests.machine.kit.users import by

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("base")]
ESCAPE = Path(layers.__file__).with_name("escape.py")
MIB = 1 << 20


@pytest.mark.parametrize("network", [True, False])
def test_every_way_out_is_closed(base: str, *, network: bool) -> None:
    """All attempts of kit/escape.py, as root of the image, by what the image has."""
    folder = bundle([member("escape.py", ESCAPE.read_bytes())])
    shown = [{"folder": folder, "source": "escape.py", "target": "/escape.py", "writable": False}]
    assert sum(Path(each).exists() for each in SOCKETS) > 8, "what is not there is refused in any case"
    made = make(name("escape"), [base], shell("python3 /escape.py", mounts=shown), network=network)
    assert made.ok, made.text
    said = dict(line.split(": ", 1) for line in made.lines if ": " in line)
    assert len(said) > 80, made.text
    assert {attempt: how for attempt, how in said.items() if not how.startswith("refused")} == {}


def test_a_setuid_file_gives_nobody_a_right_in_the_machine(base: str) -> None:
    """It belongs to BASE, and nobody but root and the group of the folder can come to it."""
    made = make(name("setuid"), [base], shell("cp /bin/sh /sh; chmod 6755 /sh"))
    assert made.ok, made.text
    file = diff(made.layer, "sh")
    assert (file.stat().st_uid, file.stat().st_gid) == (BASE, BASE)
    done = by("mallory", "ls", LAYERS)
    assert "Permission denied" in done.stderr
    done = by("mallory", "sh", "-c", f"{file} -c id")  # not by setpriv, which still has capabilities
    assert "Permission denied" in done.stderr


def test_a_daemon_does_not_outlive_its_step(base: str) -> None:
    """However often it forks and leaves its session."""
    script = """
    cat >/daemon <<'PY'
import os, time
for _ in range(3):
    if os.fork():
        os._exit(0)
    os.setsid()
time.sleep(600)
PY
    python3 /daemon; sleep 0.3; echo left
    """
    made = make(name("daemon"), [base], shell(script))
    assert (made.ok, made.lines) == (True, ["left"]), made.text
    assert processes() == []


def test_signals_to_all_end_the_step_only(base: str) -> None:
    """``kill -9 -1``: flyted and everybody else go on."""
    before = subprocess.run(["systemctl", "show", "-P", "MainPID", "flyted.service"], capture_output=True, check=True)
    made = make(
        name("kill all"), [base], shell("python3 -c 'import os; os.kill(-1, 9)'; kill -9 1; kill -9 -1; echo x")
    )
    assert not made.ok or made.lines[-1] == "x", made.text
    after = subprocess.run(["systemctl", "show", "-P", "MainPID", "flyted.service"], capture_output=True, check=True)
    assert before.stdout == after.stdout
    assert processes() == []


def test_a_step_that_fills_the_disk_is_killed(base: str) -> None:
    """By what it may write, in bytes and in files; nothing of it is left."""
    fill = "while true; do cat /usr/bin/python3* >>/fill; done"
    made = make(name("fill"), [base], shell(fill), settings={"layer_bytes": 50 * MIB})
    assert made.end == UnitEnd("exit-code", words.EX_FULL)
    assert "it wrote more than 50 MB" in made.failure.message
    assert not diff(made.layer).parent.exists()
    many = 'python3 -c \'import itertools\nfor n in itertools.count(): open(f"/f{n}", "w").close()\''
    made = make(name("many"), [base], shell(many), settings={"layer_files": 20_000})
    assert "it created more than 20000 files" in made.failure.message
    cached = make(
        name("cached"), [base], shell(fill.replace("/fill", "/c/x"), caches=["/c"]), settings={"layer_bytes": 50 * MIB}
    )
    assert "it wrote more than 50 MB" in cached.failure.message
    full = make(name("full"), [base], shell("sleep 60"), settings={"keep_free": 1 << 60})
    assert "of disk space were free" in full.failure.message
    assert processes() == []


RESERVE = """
import ctypes, fcntl, os, struct
libc, free = ctypes.CDLL(None, use_errno=True), os.statvfs("/").f_bavail * os.statvfs("/").f_frsize

def fallocate(fd, mode, size):
    return libc.fallocate(fd, mode, ctypes.c_long(0), ctypes.c_long(size)) and ctypes.get_errno()

fd = os.open("/reserved", os.O_RDWR | os.O_CREAT)
said = [fallocate(fd, mode, free * 9 // 10) for mode in (0, 1, 0x10)]
for request in (0x40305828, 0x4030582A, 0x40305839):
    try:
        said.append(fcntl.ioctl(fd, request, struct.pack("hhqqiI16x", 0, 0, 0, free * 9 // 10, 0, 0)))
    except OSError as error:
        said.append(error.errno)
os.write(fd, bytes(1 << 20))
print(*said, fallocate(fd, 3, 1 << 20), os.fstat(fd).st_blocks)
"""


def test_a_step_cannot_reserve_the_disk(base: str) -> None:
    """By one call it would be full before anything could look. EOPNOTSUPP: programs write instead. A hole is none."""
    made = make(name("reserve"), [base], {**shell("true"), "argv": ["python3", "-c", RESERVE]})
    assert made.ok, made.text
    assert made.lines[-1] == " ".join(["95"] * 6 + ["0", "0"])


def test_others_may_fill_the_disk_meanwhile(base: str) -> None:
    """A step is not killed for what it has not written."""
    other = Path(LAYERS, "other")

    def others() -> None:
        other.write_bytes(bytes(80 * MIB))
        time.sleep(1)

    try:
        made = make(
            name("small"),
            [base],
            shell("echo ready; sleep 2; echo x >/x"),
            settings={"layer_bytes": 50 * MIB},
            then=others,
        )
    finally:
        other.unlink(missing_ok=True)
    assert made.ok, made.text


def test_output_without_an_end_of_line_is_no_memory(base: str) -> None:
    """It is passed on as it comes."""
    made = make(name("loud"), [base], shell("head -c 20000000 /dev/zero | tr '\\0' x"))
    assert made.ok


def test_an_image_cannot_hang_or_mislead_the_program(base: str) -> None:
    """Pipes for its lists of users, links to the machine's paths where things are mounted, and no folders at all."""
    script = """
    rm -rf /etc/passwd /etc/group /opt
    mkfifo /etc/passwd /etc/group
    ln -s /../../../var/lib/flyted /opt
    """
    links = bundle(
        [
            member("etc/resolv.conf", type=tarfile.SYMTYPE, linkname="/var/lib/flyted/secrets/x"),
            member("etc/hosts", type=tarfile.SYMTYPE, linkname="../../../run/systemd/resolve/stub-resolv.conf"),
        ]
    )
    lowest = make(name("misleading links"), [base], copy(links, "etc", "/etc"))
    assert lowest.ok, lowest.text
    first = make(name("mislead"), [base, lowest.layer], shell(script))
    assert first.ok, first.text
    second = make(
        name("misled"),
        [base, lowest.layer, first.layer],
        shell("cat /etc/hosts /etc/resolv.conf; ls /opt", caches=["/opt/cache"]),
        user="0:0",
    )
    assert second.ok, second.text
    assert "127.0.0.1 localhost flyted-build" in second.lines
    assert not Path("/var/lib/flyted/cache").exists()
    assert not Path("/var/lib/flyted/secrets/x").exists()
    nobody = make(name("no users"), [base, first.layer], shell("true"), user="www-data")
    assert "the image has no user www-data" in nobody.failure.message


HOSTILE: dict[str, list[tuple[tarfile.TarInfo, bytes]]] = {
    "a link out": [
        member("s/l", type=tarfile.SYMTYPE, linkname="../../../../../etc"),
        member("s/l/out", b"x"),
    ],
    "an absolute link": [
        member("s/l", type=tarfile.SYMTYPE, linkname="/var/lib/flyted/secrets"),
        member("s/l/out", b"x"),
    ],
    "an absolute name": [member("/s/out", b"x")],
    "dots": [member("s/../../out", b"x")],
    "a device": [member("s/d", type=tarfile.BLKTYPE, devmajor=254, devminor=0)],
    "a pipe": [member("s/p", type=tarfile.FIFOTYPE)],
    "a hard link out": [member("s/h", type=tarfile.LNKTYPE, linkname="../../../etc/shadow")],
    "a hard link to the image": [member("s/h", type=tarfile.LNKTYPE, linkname="etc/shadow")],
    "a name too long": [member("s/" + "n" * 300, b"x")],
    "a folder for a file": [member("s/d/x", b"x"), member("s/d", b"x")],
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_bundle_stays_in_the_image(base: str, how: str) -> None:
    """Copied, or shown to a command: refused in one line, or as harmless as what the step may do anyway."""
    folder = bundle(HOSTILE[how])
    before = listed("/var/lib/flyted"), listed("/etc"), listed("/")
    copied = make(name(f"copied {how}"), [base], copy(folder, "s", "/opt/s"))
    shown = [{"folder": folder, "source": "s", "target": "/opt/s", "writable": True}]
    ran = make(name(f"shown {how}"), [base], shell("ls /opt/s", mounts=shown))
    for made in (copied, ran):
        assert made.ok or made.lines[-1].startswith(words.OURS), made.text
        assert "Traceback" not in made.text
    assert (listed("/var/lib/flyted"), listed("/etc"), listed("/")) == before
    assert not Path(LAYERS, "out").exists()


def test_a_bomb_is_killed(base: str) -> None:
    """A gigabyte of zeros in a megabyte; and files without number."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        info, _ = member("s/zeros")
        info.size = 1 << 30
        file.write(info.tobuf())
        for _ in range(1 << 10):
            file.write(bytes(MIB))
        file.write(bytes(1024))
    folder = bundle((), packed=packed.getvalue())
    made = make(name("zeros"), [base], copy(folder, "s", "/opt"), settings={"layer_bytes": 60 * MIB})
    assert "it wrote more than 60 MB" in made.failure.message
    folder = bundle(member(f"s/{n}", b"") for n in range(60_000))
    made = make(name("names"), [base], copy(folder, "s", "/opt"), settings={"layer_files": 10_000})
    assert "it created more than 10000 files" in made.failure.message


def test_two_steps_of_strangers_share_nothing(base: str) -> None:
    """Neither processes, nor shared memory, nor /tmp, nor a network."""
    spy = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; ls /dev/shm /tmp"
    seen: list[str] = []

    def look() -> None:
        made = make(name("spy"), [base], shell(spy))
        seen.append(made.text)

    made = make(
        name("watched"),
        [base],
        shell("touch /dev/shm/HERE /tmp/HERE; (exec -a SECRETNAME sleep 8) & echo ready; sleep 6; echo over"),
        then=look,
    )
    assert made.ok, made.text
    assert "HERE" not in seen[0]
    assert "SECRETNAME" not in seen[0]


def test_two_units_of_one_layer_take_turns(base: str) -> None:
    """The second waits for the first, and then makes it anew: both end well, and the layer is whole."""
    ends = []

    def one() -> None:
        ends.append(make(name("turns"), [base], shell("sleep 1; echo x >/x")))

    both = [threading.Thread(target=one) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert [made.ok for made in ends] == [True, True]
    assert listed(diff(name("turns"))) == ["x"]
