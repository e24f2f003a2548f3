"""What `flyte.Resources` asks for is what an app gets: memory and CPU, /dev/shm, and what is said of a disk."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit import programs
from tests.machine.kit.apps import state
from tests.machine.kit.programs import do, port_server, unit, write
from tests.machine.kit.users import alice, answer, by, curl, everything, forget_apps, refused, until

MIB = 1 << 20
SLOW_S = 200
CONTROLLERS = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()


def counted(controller: str) -> pytest.MarkDecorator:
    """For tests of what the kernel counts: in a container it may not be ours to give, and nothing would be limited."""
    return pytest.mark.skipif(controller not in CONTROLLERS, reason=f"the {controller} controller is not given to us")


EATS = "held = bytearray({mib} << 20)\nfor at in range(0, len(held), 4096): held[at] = 1\nresult = len(held) >> 20"
BURNS = (
    "import time\nbegan = time.process_time()\nwhile time.process_time() - began < {seconds}: pass\nresult = 'done'"
)


# one that is there already: an image takes long to build in an emulated machine, and is not what is tested
PYTHON = ("--python-env", "/opt/limits")


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    alice("sudo", "python3", "-m", "venv", "--without-pip", PYTHON[1])
    yield
    forget_apps("limit-")


def serve(name: str, **how: str) -> str:
    """Serve the program with these resources; its URL."""
    return programs.serve(name, port_server(), *PYTHON, **how)


def show(name: str, key: str) -> str:
    """One property of an app's service."""
    words = ["systemctl", "show", "--value", f"--property={key}", unit(name)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def cgroup(name: str, file: str) -> dict[str, int]:
    """A file of the app's cgroup with a number for each word."""
    path = Path(f"/sys/fs/cgroup{show(name, 'ControlGroup')}/{file}")
    return {word: int(number) for word, number in (line.split() for line in path.read_text().splitlines())}


@counted("memory")
def test_what_is_within_the_memory_is_there_and_more_is_the_end() -> None:
    """The kernel kills the app at its limit, whole, and nothing else; its owner is told in words; it comes back."""
    url = serve("limit-memory", resources='cpu=2, memory="200Mi"')
    service = unit("limit-memory")
    assert show("limit-memory", "MemoryMax") == str(200 * MIB)
    assert do(url, EATS.format(mib=100)) == "100"
    others = everything()["units"]
    assert curl(f"{url}/do", "--http1.1", "-X", "POST", "--data-binary", EATS.format(mib=400))[0] == 502
    until(lambda: state("limit-memory") != "running", SLOW_S)
    journal = subprocess.run(
        ["journalctl", "-b", "-o", "cat", f"UNIT={service}"], capture_output=True, text=True, check=True
    ).stdout
    assert "Failed with result 'oom-kill'" in journal
    app = answer("app", "get", "limit-memory")
    assert "exceeded its memory limit" in app["reason"], app
    assert "exceeded its memory limit" in alice("flytectl", "app", "get", "limit-memory").stdout
    assert everything()["units"] == others
    assert do(url, EATS.format(mib=100)) == "100"
    assert state("limit-memory") == "running"


@counted("memory")
def test_a_start_that_needs_more_memory_than_it_has_is_told() -> None:
    """As a model that is too large: the revision does not come up, and the reason is the limit."""
    alice("sh", "-c", "printf 'held = bytearray(400 << 20)\\nheld[::4096] = bytes([1]) * (400 << 8)\\n' > greedy.py")
    file = write("limit-greedy", ["python", "greedy.py"], include=("greedy.py",), resources='cpu=2, memory="200Mi"')
    done = by("alice", "flytectl", "serve", *PYTHON, file)
    assert done.returncode == 8, done.stderr
    assert "it was killed: it exceeded its memory limit" in done.stderr


@counted("cpu")
@pytest.mark.parametrize(("cores", "quota_us"), [("0.25", 25_000), ("1", 100_000)])
def test_the_processors_are_as_many_as_asked_for(cores: str, quota_us: int) -> None:
    """Counted by the kernel itself: in each of its periods the app ran no longer than its share."""
    url = serve("limit-cpu", resources=f'cpu={cores}, memory="256Mi"')
    before = cgroup("limit-cpu", "cpu.stat")
    busy = f"import threading\nexec({BURNS.format(seconds=2)!r})"
    threads = (
        f"import threading\nburn = {busy!r}\nall = [threading.Thread(target=exec, args=(burn,)) for _ in range(3)]\n"
    )
    do(url, f"{threads}[t.start() for t in all]\n[t.join() for t in all]\nresult = 1")
    after = cgroup("limit-cpu", "cpu.stat")
    used, periods, held_back = (after[k] - before[k] for k in ("usage_usec", "nr_periods", "nr_throttled"))
    assert used >= 1_900_000
    assert used <= (periods + 1) * quota_us * 1.05  # slices of 5 ms may be left over from the period before
    if quota_us < 100_000:  # Python's threads take turns: they ask for one processor in all
        assert held_back > 0


def test_shared_memory_has_the_size_that_was_asked_for() -> None:
    """A /dev/shm of the app's own: full at its size, seen by nobody else, empty at the next start."""
    url = serve("limit-shm", resources='cpu=2, memory="256Mi", shm="64Mi"')
    assert answer("app", "get", "limit-shm")["shm_bytes"] == 64 * MIB
    assert "64.0 MiB of /dev/shm in it" in alice("flytectl", "app", "get", "limit-shm").stdout
    assert do(url, "import os\ns = os.statvfs('/dev/shm')\nresult = s.f_frsize * s.f_blocks") == str(64 * MIB)
    fill = "file = open('/dev/shm/x', 'wb')\nresult = file.write(bytes({mib} << 20)) >> 20\nfile.close()"
    assert do(url, fill.format(mib=48)) == "48"
    assert "No space left on device" in do(url, fill.format(mib=80))
    assert not Path("/dev/shm/x").exists()
    named = "from multiprocessing.shared_memory import SharedMemory\ns = SharedMemory(create=True, size=1 << 20)\n"
    assert do(url, f"{named}result = s.size\ns.close()\ns.unlink()") == str(MIB)
    alice("flytectl", "app", "sleep", "limit-shm")
    assert do(url, "import os\nresult = os.listdir('/dev/shm')") == "[]"


def test_without_a_size_shared_memory_is_as_large_as_the_memory_and_as_private() -> None:
    """What one app leaves there, open to everybody, is in no other app's nor in the machine's; nor after a sleep."""
    one, other = serve("limit-none"), serve("limit-shm", resources='cpu=2, memory="256Mi", shm="64Mi"')
    assert do(one, "import os\ns = os.statvfs('/dev/shm')\nresult = s.f_frsize * s.f_blocks") == str(256 * MIB)
    do(one, "import os\nos.close(os.open('/dev/shm/seen', os.O_CREAT, 0o666))\nresult = 1")
    assert do(one, "import os\nresult = os.listdir('/dev/shm')") == "['seen']"
    assert do(other, "import os\nresult = os.listdir('/dev/shm')") == "[]"
    assert not Path("/dev/shm/seen").exists()
    alice("flytectl", "app", "sleep", "limit-none")
    assert do(one, "import os\nresult = os.listdir('/dev/shm')") == "[]"


def test_with_shared_memory_devices_are_as_closed_as_without() -> None:
    """Both apps have the same few devices, and the same way to use them; none is a disk or the machine's memory."""
    devices = "import os\nresult = sorted((n, os.access('/dev/' + n, os.W_OK)) for n in os.listdir('/dev'))"
    with_it = do(serve("limit-shm", resources='cpu=2, memory="256Mi", shm="64Mi"'), devices)
    without = do(serve("limit-none"), devices)
    assert with_it == without
    names = re.findall(r"'([^']+)'", with_it)
    assert {"null", "zero", "urandom", "shm"} <= set(names)
    assert not [n for n in names if re.match(r"sd|vd|nvme|loop|mem$|kmem|fuse|nvidia", n)]
    assert "Operation not permitted" in do(
        answer("app", "get", "limit-shm")["url"], "import os\nos.mknod('/dev/shm/disk', 0o060600, os.makedev(8, 0))"
    )
    assert show("limit-shm", "PrivateDevices") == "yes"


@counted("memory")
def test_shared_memory_beyond_the_memory_is_still_bounded_by_it() -> None:
    """What is in it counts in the app's memory, so a large one is no way around the limit."""
    url = serve("limit-shm-large", resources='cpu=2, memory="200Mi", shm="1Gi"')
    fill = "open('/dev/shm/x', 'wb').write(bytes(1 << 20) * 400)"
    assert curl(f"{url}/do", "--http1.1", "-X", "POST", "--data-binary", fill)[0] == 502
    until(lambda: "exceeded its memory limit" in answer("app", "get", "limit-shm-large")["reason"], SLOW_S)


def test_a_disk_that_is_not_there_is_refused_with_the_arithmetic() -> None:
    """Before anything is built; nothing is changed. One that is there is served, and what that means is said."""
    forget_apps("limit-disk")
    before = everything()
    file = write("limit-disk", port_server(), resources='cpu=1, memory="256Mi", disk="500Ti"')
    said = refused("flytectl", "serve", *PYTHON, file, status=2)
    assert re.search(r"asks for 500\.0 TiB of disk; free: [0-9.]+ [GM]iB in /var/lib", said), said
    assert "flyte.Resources(disk=" in said
    assert everything() == before
    file = write("limit-disk", port_server(), resources='cpu=1, memory="256Mi", disk="1Mi"')
    served = alice("flytectl", "serve", *PYTHON, file)
    assert "there is room for it now, but it is not reserved" in served.stderr
    assert answer("app", "get", "limit-disk")["disk_bytes"] == MIB
