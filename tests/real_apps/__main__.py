"""Tries the app files of other people's repositories, and prints which would be served, and why the others would not.

    python3 -m tests.real_apps --python ENV/bin/python [--only FILE] [--json FILE] CHECKOUT...

CHECKOUT is a folder with a repository's files; ``--python`` has the Flyte SDK and what the files import; ``--only``
names a file that lists the app files to try, as they are printed. Each file is
loaded as ``flytectl serve`` does, from its own folder, and then checked as flyted checks an app before it builds the
image. Nothing is served, so what fails later (a package that does not exist, an error at a request) is not seen.

A package that ENV lacks and that only the app itself needs is stood in for (``standins``), and named.

The files are code of strangers, which their import runs: try them only in a throw-away machine, without network and
rights. ``systemd-run --pipe --wait -p DynamicUser=yes -p PrivateNetwork=yes -p ProtectHome=yes -p NoNewPrivileges=yes
-p TemporaryFileSystem=/tmp -p WorkingDirectory=/checkout …``
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.real_apps.files import app_files
from tests.real_apps.words import GPU, SERVED, WRONG, Outcome, reasons

HERE = Path(__file__).parent
LIMIT_S = 180


def tried(file: Path, python: str) -> Outcome:
    """What comes of one file, in a process of its own. Never raises: whatever happens is an outcome."""
    command = [sys.executable, "-m", "tests.real_apps.one", str(file), python]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE / "standins")])}
    try:
        done = subprocess.run(
            command, cwd=file.parent, env=environ, capture_output=True, text=True, timeout=LIMIT_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Outcome(**json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return Outcome(WRONG, [f"no answer within {LIMIT_S} s"])
    except (ValueError, IndexError, TypeError):
        return Outcome(WRONG, [f"status {done.returncode}: {done.stderr.strip()[-300:]}"])


def table(found: dict[str, Outcome]) -> Iterable[str]:
    """The counts, the reasons with theirs, and a line for each file that is not served."""
    valid = {name: each for name, each in found.items() if each.is_valid and each.kind != GPU}
    for title, chosen in (
        ("all", found),
        ("valid, and needs no GPU", valid),
        ("of these, apps alone", {name: each for name, each in valid.items() if not each.uses_tasks}),
    ):
        served = sum(each.kind == SERVED for each in chosen.values())
        kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(each.kind for each in chosen.values()).items())
        yield f"{title}: {len(chosen)} files, served {served} ({100 * served / max(len(chosen), 1):.0f} %): {kinds}"
    yield ""
    why = Counter(reason for each in valid.values() for reason in set(reasons(each)))
    yield from (f"{count:4} {reason}" for reason, count in why.most_common())
    yield ""
    for name, each in sorted(found.items(), key=lambda item: (item[1].kind, item[0])):
        marks = " ".join(filter(None, ("tasks" if each.uses_tasks else "", *(f"~{word}" for word in each.stood_in))))
        yield f"{each.kind:10} {name}  {marks}".rstrip()
        yield from (f"{'':12}{text}" for text in (*each.why, *each.notes))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.real_apps", description=__doc__.partition("\n")[0])
    parser.add_argument("checkouts", nargs="+", type=Path)
    parser.add_argument("--python", required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", type=Path)
    args = parser.parse_args()
    found: dict[str, Outcome] = {}
    only = set(args.only.read_text().split()) if args.only else None
    for checkout in args.checkouts:
        for file in app_files(checkout.resolve()):
            name = f"{checkout.name}/{file.relative_to(checkout.resolve())}"
            if only is not None and name not in only:
                continue
            found[name] = tried(file, args.python)
            print(f"{found[name].kind:10} {name}", file=sys.stderr, flush=True)
    if args.json:
        args.json.write_text(json.dumps({name: each.__dict__ for name, each in found.items()}, indent=1))
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
