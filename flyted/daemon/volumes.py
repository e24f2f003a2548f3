"""Handles the volume verbs: folders of the operator that apps may be given; finds those that an app asks for."""

from __future__ import annotations

import asyncio
import dataclasses
import time

from flyted.contract.answers.volumes import VolumeList, VolumeStatus
from flyted.contract.app import AppSpec
from flyted.contract.errors import Busy, InvalidInput
from flyted.contract.names import printable
from flyted.contract.volumes import RO, VolumeUse, volume_name
from flyted.daemon.api.verbs import Call, Right, Socket, Verb
from flyted.host.store import Store
from flyted.host.volumes import Volume, Volumes, checked

LOOK_S = 10.0  # a network file system may never answer
_HERE = frozenset({Socket.CONTROL})  # a path is one of this machine


class VolumeVerbs:
    """The handlers of the volume verbs."""

    def __init__(self, volumes: Volumes, store: Store) -> None:
        self._volumes = volumes
        self._store = store

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        added: dict[str, type] = {"name": str, "folder": str, "read_only": bool}
        return {
            "volume.add": Verb(Right.ADMIN, added, self.add, sockets=_HERE, changes=True),
            "volume.list": Verb(Right.READ, {}, self.listed, sockets=_HERE),
            "volume.remove": Verb(Right.ADMIN, {"name": str}, self.remove, sockets=_HERE, changes=True),
        }

    async def add(self, call: Call) -> VolumeStatus:
        """Store a volume. Raises :class:`InvalidInput` for a folder that apps cannot be given."""
        name, folder = volume_name(call.args["name"]), call.args["folder"]
        call.about.tell(volume=name)
        await _checked(name, folder, read_only=call.args["read_only"])
        volume = Volume(name, folder, call.args["read_only"], time.time())
        self._volumes.add(volume)
        return self._status(volume, "")

    async def listed(self, _call: Call) -> VolumeList:
        """Return all volumes, the apps that have them, and what is wrong with those that cannot be used any more."""
        return VolumeList(tuple([await self._looked_at(volume) for volume in self._volumes.all()]))

    async def remove(self, call: Call) -> VolumeStatus:
        """Forget a volume that no app has; its folder stays. Raises :class:`NotFound` and :class:`Busy`."""
        name = volume_name(call.args["name"])
        call.about.tell(volume=name)
        found = self._status(self._volumes.find(name), "")
        if found.apps:
            raise Busy(
                f"volume '{name}' is used by {', '.join(found.apps)}", hint="serve these without it, or delete them"
            )
        self._volumes.remove(name)
        return found

    async def with_folders(self, spec: AppSpec) -> AppSpec:
        """Return the spec with the folders of the volumes that it asks for.

        Raises :class:`NotFound` for a volume that is not there, and :class:`InvalidInput` for one that apps cannot be
        given any more, or may only read.
        """
        return dataclasses.replace(spec, volumes=tuple([await self._found(spec, use) for use in spec.volumes]))

    async def _found(self, spec: AppSpec, use: VolumeUse) -> VolumeUse:
        volume = self._volumes.find(use.name)
        if volume.read_only and use.mode != RO:
            raise InvalidInput(
                f"app '{spec.key}' may only read volume '{use.name}'", hint=f"--volume {use.name}:{use.path}:ro"
            )
        group = await _checked(use.name, volume.folder, read_only=use.mode == RO)
        return dataclasses.replace(use, folder=volume.folder, group=group)

    async def _looked_at(self, volume: Volume) -> VolumeStatus:
        try:
            await _checked(volume.name, volume.folder, read_only=volume.read_only)
        except InvalidInput as error:
            return self._status(volume, error.message)
        return self._status(volume, "")

    def _status(self, volume: Volume, problem: str) -> VolumeStatus:
        using = (
            str(app.key)
            for app in self._store.apps()
            if app.current is not None and any(use.name == volume.name for use in app.current.spec.volumes)
        )
        return VolumeStatus(volume.name, volume.folder, volume.read_only, problem, tuple(using), volume.added_at)


async def _checked(name: str, folder: str, *, read_only: bool) -> str:
    """Do as :func:`checked`, in a thread, for the loop's sake. Raises :class:`InvalidInput`, also if slow."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(checked, name, folder, read_only=read_only), LOOK_S)
    except TimeoutError:
        raise InvalidInput(
            f"the folder {printable(folder)} could not be read within {LOOK_S:.0f} s", hint=f"ls -ld {folder}"
        ) from None
