"""Serves app files of other people's repositories, and counts which answer a request that wakes them.

    python3 -m tests.real_apps.served --python ENV [--minutes N] [--only FILE] [--json FILE] CHECKOUT...

To be run as root in a throw-away machine with flyted (tests/machine/boot), whose alice it serves the files as. ENV is
an environment of Python that has the Flyte SDK, as for ``python3 -m tests.real_apps``, which says what a file is. Each
file is served from its own folder as it is, its apps are put to sleep, and each is asked by the ingress. So all that
flyted does is tried: images are built, and apps start twice.

What needs another host than the package indexes, a GPU or gigabytes of packages is counted apart, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.machine.kit.users import answer, becoming, by, environment
from tests.real_apps.files import app_files
from tests.real_apps.words import GPU, NEEDS_VALUE, NO_APP, REFUSED, VALUE, WRONG

LIMIT_S = 150
"""For one file, from ``flytectl serve`` on."""
OURS = ("-p", "real-apps")
STANDINS = Path(__file__).with_name("standins")
ANSWERS, STATUS, LARGE, OUTSIDE, SLOW = "answers", "answers with an error", "large", "outside", "slow"
CLUSTER, CHECKOUT, ENDS, FAILS = "needs a cluster", "needs the SDK's sources", "ends by itself", "fails"
"""``STATUS``: the app's own 5xx. ``ENDS``: the app's program ended, of an error of its own. ``FAILS``: all else."""
_LARGE = re.compile(
    r"\b(torch|transformers|vllm|sglang|tensorflow|sentence[-_]transformers|unsloth|whisper|diffusers)\b"
)
_KINDS = {
    CLUSTER: re.compile(r"InitializationError: flyted serves apps"),
    CHECKOUT: re.compile(r"has no wheel of flyte"),
    OUTSIDE: re.compile(
        r"Name or service not known|name resolution|Network is unreachable|Could not (connect|resolve)|dns error|"
        r"Failed to (fetch|clone|connect)|ConnectError"
    ),
}
_MODULE = re.compile(r"there is no module '(\w+)")
MOST = 12
"""Packages that are stood in for in one file, when it is loaded: the image has the real ones."""
_TRAILERS = "TE: trailers"  # codespell:ignore te
_PATHS = ("/", "/health", "/docs", "/_stcore/health")


@dataclass
class Found:
    """What became of a file. ``answers``: the status of each of its apps. ``why``: the last that was said."""

    kind: str
    why: str = ""
    answers: dict[str, int] = field(default_factory=dict)
    seconds: float = 0


def looked_at(file: Path, python: str) -> Found:
    """Serve one file and ask its apps. Never raises: whatever happens is found."""
    if large := _LARGE.search(_packages(file)):
        return Found(LARGE, large[0])
    began = time.monotonic()
    found = _served(file, python)
    found.seconds = round(time.monotonic() - began, 1)
    for app in answer("app", "ls", *OURS)["apps"]:
        by("alice", "flytectl", "app", "delete", "--yes", "--data", app["name"], *OURS)
    return found


def _served(file: Path, python: str) -> Found:
    secrets: set[str] = set()
    stood_in: list[str] = []
    while True:
        status, said = _flytectl("serve", *OURS, "--python", python, file.name, folder=file.parent, stood_in=stood_in)
        missing = set(re.findall(r"flytectl secret create (\S+?)[;\s]", f"{said} ")) - secrets
        lacks = _MODULE.search(said) if status == 3 else None
        if lacks and lacks[1] not in stood_in and len(stood_in) < MOST:
            stood_in.append(lacks[1])
        elif status != 0 and missing:
            for key in missing:  # it is given one, as any user would have to
                by("alice", "flytectl", "secret", "create", key, "-", typed="x")
            secrets |= missing
        else:
            break
    apps = answer("app", "ls", *OURS)["apps"]
    if status != 0 or not apps:
        return Found(apart(said, status), said[-900:])
    found = Found(ANSWERS)
    for app in apps:
        by("alice", "flytectl", "app", "sleep", app["name"], *OURS)
        found.answers[app["name"]] = _asked(app["url"])
    if bad := [code for code in found.answers.values() if code >= 500 or code == 0]:
        found.kind = STATUS
        name = next(name for name, code in found.answers.items() if code in bad)
        found.why = by("alice", "flytectl", "logs", "-n", "30", name, *OURS).stdout[-900:]
    return found


def _flytectl(*words: str, folder: Path, stood_in: list[str]) -> tuple[int, str]:
    """Run a command of alice's that may take ``LIMIT_S``; its status, -1 if it took longer, and what it said."""
    more = {"PYTHONPATH": str(STANDINS), "REAL_APPS_STAND_INS": " ".join(stood_in)} if stood_in else {}
    with subprocess.Popen(
        [*becoming("alice"), "flytectl", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.STDOUT, cwd=folder, env={**environment("alice"), "DO_NOT_TRACK": "1", **more},
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            said, _ = process.communicate()
            return -1, said
    return process.returncode, said


def _asked(url: str) -> int:
    """Return the status of the first path that has an answer which is no error, else that of the last; 0: none."""
    header = f"Authorization: Bearer {by('alice', 'flytectl', 'token').stdout.strip()}"
    curl = ("curl", "-sS", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}", "-H", header)
    status = 0
    for path in _PATHS:
        status = int(by("alice", *curl, f"{url}{path}").stdout or 0)
        if 0 < status < 400:
            return status
    grpc = ("--http2", "-H", "Content-Type: application/grpc", "-H", _TRAILERS, "--data-binary", "@-")
    words = by("alice", *curl, *grpc, f"{url}/grpc.health.v1.Health/Check", typed="\0" * 5).stdout
    return 200 if words == "200" else status


def apart(said: str, status: int) -> str:
    """Return the kind of a file that was not served. ``status``: of flytectl; -1: it took too long."""
    if status == -1:
        return SLOW
    if kind := next((kind for kind, words in _KINDS.items() if words.search(said)), ""):
        return kind
    if status == 3:
        return NO_APP if "no app" in said else WRONG
    if NEEDS_VALUE.search(said):
        return VALUE
    if status == 2:
        return GPU if "GPU" in said else REFUSED
    return ENDS if "exited with status" in said else FAILS


def _packages(file: Path) -> str:
    """Return the lines that may name packages of the image: texts, without imports."""
    return "\n".join(re.findall(r"[\"'#][^\n]*", file.read_text(errors="replace")))


def table(found: dict[str, Found]) -> Iterator[str]:
    """The counts, and a line for each file."""
    kinds = Counter(each.kind for each in found.values())
    yield f"{len(found)} files: " + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    for name, each in sorted(found.items(), key=lambda item: (item[1].kind, item[0])):
        yield f"{each.kind:22} {each.seconds:6.1f} s  {name}  {each.answers or ''}"
        yield from (f"{'':12}{line}" for line in each.why.splitlines()[-6:] if each.kind != ANSWERS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.real_apps.served", description=__doc__.partition("\n")[0])
    parser.add_argument("checkouts", nargs="+", type=Path)
    parser.add_argument("--python", required=True)
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", type=Path, help="a file with the names of app files, as they are printed")
    args = parser.parse_args()
    end = time.monotonic() + 60 * args.minutes
    only = set(args.only.read_text().split()) if args.only else None
    found: dict[str, Found] = {}
    for checkout in args.checkouts:
        root = Path("/home/alice/real") / checkout.name
        shutil.copytree(checkout, root, dirs_exist_ok=True, symlinks=True)
        subprocess.run(["chown", "-R", "alice:alice", root.parent], check=True)
        for file in app_files(root):
            name = f"{checkout.name}/{file.relative_to(root)}"
            if time.monotonic() > end or (only is not None and name not in only):
                continue
            found[name] = looked_at(file, args.python)
            print(f"{found[name].kind:22} {found[name].seconds:6.1f} s  {name}", file=sys.stderr, flush=True)
            if args.json:
                args.json.write_text(json.dumps({name: asdict(each) for name, each in found.items()}, indent=1))
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
