"""GPUs: granted, guarded, taken back. Only the C library and the device nodes are fakes (kit/gpus.py)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.machine.kit.gpus import (
    A100,
    L40S,
    ONE,
    PART,
    SPLIT,
    TWIN,
    WAIT_S,
    busy,
    can_open,
    capabilities,
    cuda,
    device,
    finding,
    has,
    holders,
    pid_of,
    serve,
    service,
    show,
    write,
)  # fmt: skip
from tests.machine.kit.users import alice, answer, curl, everything, give, refused, running, serving, until

pytestmark = pytest.mark.usefixtures("fake_gpus", "two_gpus")


def test_a_machine_without_a_gpu_says_so() -> None:
    """No driver, one that is not loaded, one of another version than its library: each is named, nothing changes."""
    for lines, words in (
        (["init 9"], "not loaded"),
        (["init 18", "library 13.600.1"], "its library is 13.600.1: reboot"),
        (["init 12"], "not installed"),
        (["driver 580.95.05"], "its driver 580.95.05 finds no GPU"),
    ):
        has(*lines)
        before = everything()
        said = refused(*serving(write("gpu-none")), status=2)
        assert re.search(r"app 'gpu-none' needs 1 × GPU; this machine has none: ", said), said
        assert words in said
        assert "--gpu any, or --cpu" in said
        assert everything() == before
    has("init 9")
    assert "not loaded" in alice("flytectl", "gpu", "ls").stderr
    assert answer("gpu", "ls")["gpus"] == []
    assert finding("gpu")["ok"] is True


def test_what_does_not_exist_is_refused_with_what_is_there() -> None:
    """An unknown name, more GPUs than there are, a partition where none is: the message lists what the machine has."""
    there = "2 × NVIDIA L40S (45.0 GiB)"
    for asked, said in (
        ('"H100:1"', f"needs 1 × H100; this machine has none: {there}"),
        ('"L40s:4"', f"needs 4 × L40S; this machine has 2: {there}"),
        ('flyte.GPU("A100", 1, "1g.5gb")', f"needs 1 × A100 1g.5gb; this machine has none: {there}"),
    ):
        assert said in refused(*serving(write("gpu-much", asked)), status=2)
    assert "is not a GPU" in refused(*serving("--gpu", ":2", write("gpu-much")), status=2)
    serve("gpu-much", '"H100:1"', "--cpu")
    assert answer("app", "get", "gpu-much")["gpu"] is None


def test_a_lease_opens_its_gpu_and_no_other() -> None:
    """The app sees its GPU by UUID and opens that node; the other GPU, and an app without a lease, get nothing."""
    done = alice(*serving(write("gpu-one", '"L40s:1"')))
    assert re.search(r"GPU granted: GPU-.f3a0b2c… NVIDIA L40S, 44\.7 of 45\.0 GiB free", done.stderr), done.stderr
    one, other = done.stdout.strip(), serve("gpu-two", "1")
    mine = cuda(one)
    assert {mine, cuda(other)} == {L40S, TWIN}
    node, foreign = ("/dev/nvidia0", "/dev/nvidia1") if mine == L40S else ("/dev/nvidia1", "/dev/nvidia0")
    for path in (node, "/dev/nvidiactl", "/dev/nvidia-uvm"):
        assert can_open(one, path) == "opened", path
    for path in (foreign, "/dev/nvidia2", "/dev/nvidia-caps/nvidia-cap21"):
        assert can_open(one, path) in ("Operation not permitted", "Permission denied"), path
    assert can_open(one, foreign) == "Operation not permitted"
    assert can_open(other, foreign) == "opened"
    plain = serve("gpu-no", "None")
    assert can_open(plain, node) == "No such file or directory"
    held = answer("app", "get", "gpu-one")["gpu"]
    assert (held["count"], held["name"], [d["uuid"] for d in held["devices"]]) == (1, "L40S", [mine])
    assert mine in alice("flytectl", "app", "get", "gpu-one").stdout
    rows = alice("flytectl", "gpu", "ls").stdout
    assert re.search(rf"^{mine} +NVIDIA L40S +44\.7 GiB +45\.0 GiB +held +gpu-one \(0 B\) +\d", rows, re.MULTILINE)
    assert list(holders(mine)) == ["gpu-one"]


def test_a_sandbox_with_a_gpu_scores_as_promised() -> None:
    """systemd-analyze security of the running unit: at most 1.4."""
    serve("gpu-score")
    subprocess.run(["systemd-analyze", "security", "--no-pager", "--threshold=14", service("gpu-score")], check=True)


def test_the_flag_changes_the_deployment() -> None:
    """``--gpu any:2`` on a file that asks for one H100: both GPUs, comma between."""
    url = serve("gpu-flag", '"H100:1"', "--gpu", "any:2")
    assert set(cuda(url).split(",")) == {L40S, TWIN}
    assert answer("app", "get", "gpu-flag")["gpu"]["count"] == 2


def test_the_idle_holder_gives_way_and_the_busy_one_never() -> None:
    """Both GPUs are held, one by a busy app: the third gets the other's, and its holder wakes when there is room."""
    urls = {name: serve(name) for name in ("gpu-busy", "gpu-idle")}
    with busy("gpu-busy"):
        given = cuda(urls["gpu-idle"])
        third = serve("gpu-third")
        assert cuda(third) == given
        assert answer("app", "get", "gpu-idle")["state"] == "sleeping"
        assert answer("app", "get", "gpu-busy")["state"] == "running"
        kept = cuda(urls["gpu-busy"])
        with busy("gpu-third"):  # so that only the busy one's is left, once it idles
            assert curl(f"{urls['gpu-busy']}/release")[0] == 200
            assert cuda(urls["gpu-idle"]) == kept != given
            node = {L40S: "/dev/nvidia0", TWIN: "/dev/nvidia1"}
            assert can_open(urls["gpu-idle"], node[kept]) == "opened"
            assert can_open(urls["gpu-idle"], node[given]) == "Operation not permitted"  # lent to it before


def test_who_waits_too_long_is_told_why() -> None:
    """A bounded wait, with the arithmetic: for the operator at serve, for a client as 503, in the app's own log."""
    has(ONE)
    holder = serve("gpu-holder")
    alice("flytectl", "app", "sleep", "gpu-holder")
    serve("gpu-late")
    with busy("gpu-late"):
        said = refused(*serving(write("gpu-new")), status=8)
        assert f"no GPU within {WAIT_S} s: needs 1 × GPU; GPU-1f3a0b2c… NVIDIA L40S" in said
        assert "held by gpu-late (busy)" in said
        status, body = curl(holder, "-D", "-")
        assert status == 503, body
        assert re.search(r"^retry-after: \d+", body, re.MULTILINE | re.IGNORECASE)
        assert "held by gpu-late (busy)" in alice("flytectl", "logs", "gpu-holder", "-n", "50").stdout
        until(lambda: answer("app", "get", "gpu-holder")["state"] == "failed")
        assert "held by gpu-late (busy)" in answer("app", "get", "gpu-holder")["reason"]
    until(lambda: curl(holder)[0] == 200)


def test_one_that_waits_is_seen_and_can_be_cancelled() -> None:
    """``app get`` and ``gpu ls`` show who waits for what; a start that is stopped leaves the line."""
    has(ONE)
    holder = serve("gpu-holds")
    alice("flytectl", "app", "sleep", "gpu-holds")
    second = serve("gpu-waits")
    alice("flytectl", "app", "sleep", "gpu-waits")
    assert curl(holder)[0] == 200
    with busy("gpu-holds"), running("curl", "-sS", second):
        until(lambda: bool(answer("gpu", "ls")["waiting"]))
        assert "waiting for a GPU: needs 1 × GPU" in answer("app", "get", "gpu-waits")["reason"]
        alice("flytectl", "app", "stop", "gpu-waits")
        until(lambda: not answer("gpu", "ls")["waiting"], 3 * WAIT_S)
        assert list(holders(L40S)) == ["gpu-holds"]


def test_a_new_revision_takes_over_on_the_only_gpu() -> None:
    """The old revision is idle: it gives the GPU to the new one, which then serves."""
    has(ONE)
    url = serve("gpu-again")
    assert json.loads(curl(f"{url}/")[1])["version"] == "1"
    serve("gpu-again", version="2")
    assert json.loads(curl(f"{url}/")[1])["version"] == "2"
    until(lambda: holders(L40S).get("gpu-again", {}).get("revision") == 2)


def test_peaks_are_learned_and_small_apps_share() -> None:
    """After a first run alone on a GPU, two apps that need 4 GiB each share one; the third, unknown, waits in vain."""
    has(ONE)
    names = ("gpu-small", "gpu-tiny")
    for name in names:
        serve(name)
        has(ONE, f"proc {L40S} {pid_of(name)} 4096")
        assert holders(L40S)[name]["used_bytes"] == 4 << 30
        alice("flytectl", "app", "sleep", name)
        has(ONE)
        assert answer("app", "get", name)["gpu"]["peak_bytes"] == 4 << 30
    for name in names:
        assert curl(answer("app", "get", name)["url"])[0] == 200
    until(lambda: set(holders(L40S)) == set(names))
    assert all(h["reserved_bytes"] == pytest.approx(4.4 * (1 << 30), rel=0.01) for h in holders(L40S).values())
    assert answer("app", "get", "gpu-small")["gpu"]["load_s"] > 0


def test_a_model_that_is_too_large_is_told_in_words() -> None:
    """Torch's error, out of the log of vLLM's start; and the lease is over."""
    give(
        "vllm/entrypoints/openai/api_server.py",
        "class OutOfMemoryError(RuntimeError): pass\n"
        "raise OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of')\n",
    )
    file = give(
        "gpu_full.py",
        "import flyte, flyte.app\n"
        "env = flyte.app.AppEnvironment(\n"
        "    name='gpu-full', args=['python', '-m', 'vllm.entrypoints.openai.api_server', '--port', '8080'],\n"
        "    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages('waitress'),\n"
        "    include=['vllm/entrypoints/openai/api_server.py'], requires_auth=False,\n"
        "    resources=flyte.Resources(cpu=1, memory='256Mi', gpu=1),\n"
        ")\n",
    )
    said = refused(*serving(file), status=8)
    assert "the GPU has too little memory for the model" in said
    until(lambda: {device(L40S)["state"], device(TWIN)["state"]} == {"free"})
    shutil.rmtree("/home/alice/vllm")


def test_a_partition_opens_its_capabilities() -> None:
    """MIG: the partition's UUID, its parent's node and its two capabilities; a whole GPU in MIG mode is not."""
    has(ONE, SPLIT)
    with capabilities("gpu2/mig/gi3/access", 21, "gpu2/mig/gi3/ci0/access", 22):
        said = refused(*serving(write("gpu-whole", '"A100:1"')), status=2)
        assert "NVIDIA A100-SXM4-40GB (40.0 GiB; split into 1 × 1g.5gb)" in said
        url = serve("gpu-part", 'flyte.GPU("A100", 1, "1g.5gb")')
        assert cuda(url) == PART
        for path in ("/dev/nvidia2", "/dev/nvidia-caps/nvidia-cap21", "/dev/nvidia-caps/nvidia-cap22"):
            assert can_open(url, path) == "opened", path
        assert can_open(url, "/dev/nvidia0") == "Operation not permitted"
        assert device(A100)["state"] == "split"
        assert list(holders(PART)) == ["gpu-part"]
        assert re.search(rf"^  {PART} ", alice("flytectl", "gpu", "ls").stdout, re.MULTILINE)


def test_idle_costs_nothing() -> None:
    """With a lease held and no request the daemon makes no system call; the helper is there only for its watcher."""
    serve("gpu-quiet")
    pid = show("flyted.service", "MainPID")
    time.sleep(6)  # what a start brings about is over
    done = subprocess.run(
        ["timeout", "8", "strace", "-f", "-q", "-e", "signal=none", "-p", pid],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    # what a thread is in already, and stays in, is shown as well
    waits = ("restart_syscall", "epoll_wait", "attached", "detached")
    calls = [line for line in done.stderr.splitlines() if not any(word in line for word in waits)]
    assert [line for line in calls if not ("futex(" in line and "<unfinished" in line)] == []


def test_the_helper_has_no_rights_and_goes_away() -> None:
    """Another user than root, no capability, a socket of root's alone; without a lease it ends by itself."""
    answer("gpu", "ls")
    status = Path(f"/proc/{show('flyted-gpu.service', 'MainPID')}/status").read_text()
    assert re.search(r"^Uid:\s+[1-9]", status, re.MULTILINE)
    assert {line.split()[1] for line in status.splitlines() if line.startswith("Cap")} == {"0" * 16}
    assert Path("/run/flyted/gpu.sock").stat().st_mode & 0o777 == 0o600
    subprocess.run(["systemd-analyze", "security", "--no-pager", "--threshold=16", "flyted-gpu.service"], check=True)
    until(lambda: show("flyted-gpu.service", "ActiveState") == "inactive", 60)
