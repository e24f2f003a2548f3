"""Handles the data verbs: lists what apps keep, also deleted ones; exports, imports and removes it.

The archive is made and unpacked by a unit that runs as the app's own user (plan/app_folders.py). The client's open
file goes to it by its descriptor, so flyted reads no byte of either side.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyted.base import tasks
from flyted.contract.answers.data import DataFolder, DataList, Exported, Imported
from flyted.contract.errors import AlreadyExists, Busy, HostFailure, InvalidInput, NotFound, PermissionRefused
from flyted.contract.names import DEFAULT_DOMAIN, DEFAULT_PROJECT, AppKey, state_name
from flyted.daemon.api.actor import Actor
from flyted.daemon.api.changes import user_of
from flyted.daemon.api.verbs import APP_ARGS, Call, Right, Socket, Verb
from flyted.daemon.apps.data import AppData, kept_key
from flyted.daemon.apps.locks import DeployLocks
from flyted.daemon.execute import Execute
from flyted.daemon.look import Look
from flyted.host.disk import app_folders, is_folder
from flyted.host.kept_data import Kept
from flyted.plan.app_folders import export_unit, folder_of, import_unit
from flyted.plan.data_folder import STATE
from flyted.plan.facts import StoredApp
from flyted.plan.reasons import clean

COUNTED_S = 10.0
"""Seconds for the sizes of all folders of a list."""
AT_ONCE = 4
_HERE = frozenset({Socket.CONTROL})  # a descriptor is one of this machine
_MOST = 64 << 10  # bytes of what a unit says


@dataclass(frozen=True)
class Found:
    """Data by the name of its app. ``owner``: the user who may read it besides root; "": nobody."""

    key: AppKey
    app: StoredApp | None
    owner: str
    deleted_at: float = 0.0

    @staticmethod
    def of_app(app: StoredApp) -> Found:
        """Return the data of an app that is there."""
        newest = app.current or (app.revisions[-1] if app.revisions else None)
        return Found(app.key, app, newest.deployed_by if newest else "")

    @staticmethod
    def of_kept(kept: Kept) -> Found:
        """Return the data of a deleted app."""
        return Found(kept.key, None, kept.owner, kept.deleted_at)

    @property
    def folder(self) -> str:
        """Its folder."""
        return folder_of(self.key.id)


@dataclass
class DataVerbs:
    """The handlers of the data verbs."""

    data: AppData
    locks: DeployLocks
    look: Look
    execute: Execute
    _exported: set[str] = field(default_factory=set)

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        imported: dict[str, type] = {**APP_ARGS, "replace": bool, "skip_links": bool}
        return {
            "data.list": Verb(Right.READ, {}, self.list, sockets=_HERE),
            "data.export": Verb(
                Right.OPERATE, APP_ARGS, self.export, file=True, until_gone=True, sockets=_HERE, changes=True
            ),
            "data.import": Verb(
                Right.OPERATE, imported, self.import_, file=True, until_gone=True, sockets=_HERE, changes=True
            ),
            "data.remove": Verb(Right.OPERATE, APP_ARGS, self.remove, sockets=_HERE, changes=True),
        }

    async def list(self, _call: Call) -> DataList:
        """Return what apps keep, then what is kept of deleted ones. A size that takes too long is not complete."""
        store = self.data.store
        found = [Found.of_app(app) for app in store.apps()]
        found += [Found.of_kept(kept) for kept in store.kept_data.all()]
        found = [each for each in found if is_folder(each.folder)]
        ids = {each.key.id for each in found} | store.ids()
        found += [Found(key, None, "") for key in await asyncio.to_thread(_strays, ids)]
        end, several = asyncio.get_running_loop().time() + COUNTED_S, asyncio.Semaphore(AT_ONCE)

        async def counted(each: Found) -> DataFolder:
            async with several:
                return await self._described(each, end)

        return DataList(tuple(await asyncio.gather(*map(counted, found))))

    async def export(self, call: Call) -> Exported:
        """Write an app's data to the client's file. The app may run: files may then change while they are read.

        Raises :class:`NotFound`, :class:`PermissionRefused`, :class:`Busy`, :class:`InvalidInput` for a file that
        cannot be written, and :class:`HostFailure`.
        """
        call.about.tell(app=kept_key(self.data.store, call.app).id)
        found = self._found(call)
        self._check_reader(call.actor, found)
        output = _opened(call, os.O_WRONLY)
        with self._exporting(found), _memory() as said:
            unit = export_unit(found.key.id, output, said)
            answer = await self._transfer(f"flyted-export-{found.key.id}.service", unit, said)
            if error := answer.get("error"):
                raise HostFailure(
                    f"the data of app '{found.key}' could not be exported: {clean(str(error))}",
                    hint="the file is not complete: delete it",
                )
            files, size, left_out = _counts(answer)
            return Exported(files, size, left_out, changed=answer.get("changed") is True)

    async def import_(self, call: Call) -> Imported:
        """Replace the data of an app that is stopped, or not served yet, by an archive; or change nothing.

        Raises :class:`Busy` for an app that may run, :class:`AlreadyExists` if there is data and the client has not
        said that it may be replaced, :class:`PermissionRefused`, :class:`InvalidInput` for an archive that is refused,
        and :class:`HostFailure`.
        """
        async with self._alone(call, "an import of the data") as found:
            self._check_reader(call.actor, found)
            source = _opened(call, os.O_RDONLY)
            before = await self.data.of(found.key.id)
            if before is not None and before.files and not call.args["replace"]:
                raise AlreadyExists(
                    f"app '{found.key}' has {before.files} files, which the import would replace",
                    hint=f"flytectl data import --yes {found.key.name} FILE",
                )
            with _memory() as said:
                unit = import_unit(found.key.id, source, said, skip_links=call.args["skip_links"])
                answer = await self._transfer(f"flyted-import-{found.key.id}.service", unit, said)
            self.data.forget(found.key.id)
            if error := answer.get("error"):
                if before is None:
                    await self._removed(found)  # the folder that the unit was given
                raise InvalidInput(
                    f"nothing was imported: {clean(str(error))}",
                    hint="flytectl data import --skip-links leaves out links that lead elsewhere"
                    if "leads out" in str(error) and "link" in str(error)
                    else "the app's data is as it was; the archive has to be one of 'flytectl data export'",
                )
            if found.app is None:
                owner = found.owner or user_of(call.actor)
                self.data.store.kept_data.claim(found.key, owner, found.deleted_at or time.time())
            return Imported(*_counts(answer))

    async def remove(self, call: Call) -> DataFolder:
        """Delete the data of an app that is stopped or deleted; the app itself stays. Raises as :meth:`import_`."""
        async with self._alone(call, "a removal of the data") as found:
            if not is_folder(found.folder):
                raise NotFound(f"app '{found.key}' keeps no data", hint="flytectl data ls")
            described = await self._described(found, 0)
            await tasks.whole(self._removed(found))
            return described

    async def _removed(self, found: Found) -> None:
        gone = StoredApp(found.key, "stopped", None, (), 0.0, 0.0)
        await self.execute.erase(found.app or gone)
        self.data.forget(found.key.id)
        if found.app is None:
            self.data.store.kept_data.remove(found.key.id)

    async def _described(self, found: Found, end: float) -> DataFolder:
        """Describe data; its size is counted unless it is later than ``end``, on the loop's clock."""
        size = None
        if asyncio.get_running_loop().time() < end:
            with contextlib.suppress(HostFailure):
                size = await self.data.of(found.key.id)
        spec = found.app.current.spec if found.app is not None and found.app.current is not None else None
        key, disk = found.key, spec.disk_bytes if spec else 0
        sizes = (size.bytes, size.files, size.cache_bytes, size.complete) if size else (0, 0, 0, False)
        return DataFolder(
            key.name, key.project, key.domain, key.id, found.app is not None, found.owner, found.folder, *sizes, disk,
            found.deleted_at,
        )  # fmt: skip

    def _found(self, call: Call) -> Found:
        """Return the data that a call names. Raises :class:`NotFound`."""
        found = self._named(call)
        if not is_folder(found.folder):
            raise NotFound(f"there is no data of an app '{call.app}'", hint="flytectl data ls")
        return found

    def _named(self, call: Call) -> Found:
        store = self.data.store
        app = store.find(call.app)
        if app is not None:
            return Found.of_app(app)
        kept = store.kept_data.find(call.app)
        if kept is not None:
            return Found.of_kept(kept)
        return Found(store.known(call.app), None, "")  # raises if the name is that of another app's folder

    @asynccontextmanager
    async def _alone(self, call: Call, what: str) -> AsyncIterator[Found]:
        """Keep the app from being served, started or deleted meanwhile. Raises :class:`Busy` if it may run."""
        call.about.tell(app=kept_key(self.data.store, call.app).id)
        async with self.locks.hold(call.app, what):
            found = self._named(call)
            if found.key.id in self._exported:
                raise Busy(f"the data of app '{found.key}' is being exported", hint="try again when that is done")
            running = found.app is not None and found.app.wanted != "stopped"
            if running or self.look.has_units(found.key.id):
                raise Busy(
                    f"app '{found.key}' is not stopped: a request could start it at any time",
                    hint=f"flytectl app stop {found.key.name}",
                )
            yield found

    @contextmanager
    def _exporting(self, found: Found) -> Iterator[None]:
        if found.key.id in self._exported:
            raise Busy(f"the data of app '{found.key}' is being exported already", hint="try again when that is done")
        self._exported.add(found.key.id)
        try:
            yield
        finally:
            self._exported.discard(found.key.id)

    def _check_reader(self, actor: Actor, found: Found) -> None:
        """Raise :class:`PermissionRefused` unless the caller is root, or deployed the app.

        Data that nobody has yet, of an app that is still to be served, may be brought by everybody who may serve it.
        """
        if actor.root or (found.owner and user_of(actor) == found.owner):
            return
        if found.app is None and not found.owner and not is_folder(found.folder):
            return
        whose = f"was deployed by {found.owner}" if found.owner else "has no known owner"
        raise PermissionRefused(
            f"app '{found.key}' {whose}: only that user and root may read or replace its data", hint="use sudo"
        )

    async def _transfer(self, name: str, unit: dict[str, Any], said: int) -> dict[str, Any]:
        """Run a unit to its end, and return what it said. Raises :class:`HostFailure` if it said nothing sensible."""
        end = await self.data.units.run_transient(name, unit)
        try:
            answer = json.loads(os.pread(said, _MOST, 0))
            if isinstance(answer, dict) and ({"files", "bytes", "left_out"} <= set(answer) or answer.get("error")):
                return answer
        except ValueError:
            pass
        raise HostFailure(
            f"{name} ended with {end.result}, status {end.status}", hint=f"journalctl -u {name} -n 20"
        ) from None


def _counts(answer: dict[str, Any]) -> tuple[int, int, int]:
    return int(answer["files"]), int(answer["bytes"]), int(answer["left_out"])


@contextmanager
def _memory() -> Iterator[int]:
    handle = os.memfd_create("said", os.MFD_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _opened(call: Call, wanted: int) -> int:
    """Return the descriptor that came with a call. Raises :class:`InvalidInput` unless a unit can use it."""
    if call.file is None:
        raise InvalidInput("the request carries no file", hint="install flytectl and flyted of the same version")
    mode = os.fstat(call.file).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise InvalidInput("the data goes to or comes from a regular file or a pipe, and nothing else")
    if fcntl.fcntl(call.file, fcntl.F_GETFL) & os.O_ACCMODE not in (wanted, os.O_RDWR):
        raise InvalidInput(f"the file is not open for {'writing' if wanted == os.O_WRONLY else 'reading'}")
    return call.file


def _strays(known: Iterable[str]) -> list[AppKey]:
    """Return the names of folders without a record: of apps that an earlier flyted deleted, or of a lost database."""
    prefix, ids = state_name(""), set(known)
    there = (name.removeprefix(prefix) for name in app_folders(Path(STATE)))
    keys = (_stray(app_id) for app_id in there if app_id not in ids)
    return [key for key in keys if key is not None]


def _stray(app_id: str) -> AppKey | None:
    with contextlib.suppress(InvalidInput):
        return AppKey(DEFAULT_PROJECT, DEFAULT_DOMAIN, app_id).known_as(app_id)
    return None
