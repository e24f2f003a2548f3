"""A machine whose apps keep data, for the data verbs: the units' own programs run, on a folder of the test."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flyted.daemon.api.actor import Actor
from flyted.daemon.api.verbs import Call
from flyted.daemon.apps.data import AppData
from flyted.daemon.apps.data_verbs import DataVerbs
from flyted.daemon.apps.locks import DeployLocks
from flyted.host.store import Store
from flyted.plan.facts import ImageFact, StoredApp, UnitEnd
from tests.answers import sent
from tests.values import spec

LAUNCH = Path(__file__).parents[2] / "flyted" / "launch"
ALICE, MALLORY, ROOT = 1001, 1002, 0
PEOPLE = {ALICE: "alice", MALLORY: "mallory", ROOT: "root"}
NAMED: dict[str, Any] = {"project": "", "domain": "", "name": "notes"}


class Machine:
    """PID 1, which runs the units' programs; which apps have units; and what deletes an app's folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "db")
        self.with_units: set[str] = set()
        self.ran: list[str] = []
        self.fails = self.fills_disk = False
        self.during: Callable[[], None] = lambda: None
        nothing: Any = self
        found = AppData(nothing, self.store, nothing)
        self.locks = DeployLocks()
        self.verbs = DataVerbs(found, self.locks, nothing, nothing)

    def state(self, app_id: str = "notes") -> Path:
        """The folder of an app's data."""
        return self.folder / f"flyted-app-{app_id}"

    def keeps(self, app_id: str = "notes", **files: str) -> None:
        """An app has written files."""
        (self.state(app_id) / "work").mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (self.state(app_id) / "work" / name).write_text(text)

    def kept(self, app_id: str = "notes") -> dict[str, str]:
        """What it has."""
        top = self.state(app_id)
        return {str(path.relative_to(top)): path.read_text() for path in sorted(top.rglob("*")) if path.is_file()}

    async def run_transient(self, name: str, wanted: Mapping[str, Any], _timeout_s: float | None = None) -> UnitEnd:
        """Run a unit's program as PID 1 would, with the descriptors that it was given."""
        self.ran.append(name)
        self.during()
        if self.fails:
            return UnitEnd("exit-code", 1)
        ((_path, (_python, _how, _launch, *words), _flags),) = wanted["ExecStartEx"]
        (state,) = wanted["StateDirectory"]
        folder, cache = self.folder / state, self.folder / "cache"
        for each in (folder, cache):
            each.mkdir(exist_ok=True)
        streams = {
            stream: wanted[f"Standard{kind}FileDescriptor"]
            for stream, kind in (("stdin", "Input"), ("stdout", "Output"), ("stderr", "Error"))
            if f"Standard{kind}FileDescriptor" in wanted
        }
        environment = {"STATE_DIRECTORY": str(folder), "CACHE_DIRECTORY": str(cache), "PATH": os.environ["PATH"]}
        more: dict[str, Any] = {"stdin": subprocess.DEVNULL, "env": environment, **streams}
        done = await asyncio.to_thread(
            lambda: subprocess.run([sys.executable, "-IS", LAUNCH, *words], check=False, **more)
        )
        return UnitEnd("exit-code" if done.returncode else "success", done.returncode)

    def has_units(self, app_id: str) -> bool:
        """As daemon.look."""
        return app_id in self.with_units

    async def erase(self, app: StoredApp) -> None:
        """As daemon.execute."""
        shutil.rmtree(self.state(app.key.id))

    def all(self) -> tuple[()]:
        """No tokens."""
        return ()

    def serves(self, by: str = "alice", wanted: str = "started", **changes_: Any) -> None:
        """An app that was deployed."""
        number = self.store.add_revision(spec("notes", **changes_), ImageFact("/i"), "f", 1.0, by)
        self.store.serve("notes", number, 1.0)
        self.store.want("notes", wanted, 1.0)

    async def call(self, verb: str, uid: int = ALICE, file: int | None = None, **args: Any) -> dict[str, Any]:
        """A verb, with its arguments checked as on the socket."""
        row = self.verbs.verbs()[verb]
        checked = row.check({**args, **({"files": 1} if row.file else {})})
        return sent(await row.handler(Call(Actor(uid, 1), checked, b"", {}, _nobody, file=file)))

    def ask(self, verb: str, uid: int = ALICE, file: int | None = None, **args: Any) -> dict[str, Any]:
        """The same, to its end."""
        return asyncio.run(self.call(verb, uid, file, **args))

    def exported(self, uid: int = ALICE) -> tuple[dict[str, Any], set[str]]:
        """What an export says, and the names in the archive."""
        path = self.folder / "out.tar"
        with path.open("wb") as file:
            said = self.ask("data.export", uid, file.fileno(), **NAMED)
        with tarfile.open(path) as made:
            return said, {each.name for each in made.getmembers() if each.isfile()}

    def imported(self, archive: bytes, uid: int = ALICE, **more: bool) -> dict[str, Any]:
        """What an import says."""
        path = self.folder / "in.tar"
        path.write_bytes(archive)
        with path.open("rb") as file:
            args = {**NAMED, "replace": False, "skip_links": False, **more}
            return self.ask("data.import", uid, file.fileno(), **args)


async def _nobody(_event: object) -> None:
    raise AssertionError("no events")


def archive(text: str = "tea", name: str = "work/a", kind: bytes = tarfile.REGTYPE) -> bytes:
    """An archive of one entry."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as made:
        header = tarfile.TarInfo(name)
        header.type, header.size, header.linkname = kind, len(text), "/etc/passwd" if kind != tarfile.REGTYPE else ""
        made.addfile(header, io.BytesIO(text.encode()))
    return written.getvalue()
