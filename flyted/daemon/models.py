"""Handles the model verbs: names that stand for folders of this machine; finds those that an app uses."""

from __future__ import annotations

import asyncio
import dataclasses
import time

from flyted.contract.answers.models import ModelList, ModelStatus
from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput
from flyted.contract.names import model_name, printable
from flyted.daemon.api.verbs import Call, Right, Socket, Verb
from flyted.host.models import Model, Models, checked
from flyted.plan.engines.models import model_names, model_paths

LOOK_S = 30.0  # for all files of a folder; a network file system may never answer
_HERE = frozenset({Socket.CONTROL})  # a path is one of this machine: only callers on it may give one


class ModelVerbs:
    """The handlers of the model verbs."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        return {
            "model.add": Verb(Right.OPERATE, {"name": str, "folder": str}, self.add, sockets=_HERE, changes=True),
            "model.list": Verb(Right.READ, {}, self.listed, sockets=_HERE),
            "model.remove": Verb(Right.OPERATE, {"name": str}, self.remove, sockets=_HERE, changes=True),
        }

    async def add(self, call: Call) -> ModelStatus:
        """Store a name for a folder that every app can read. Raises :class:`InvalidInput` for any other folder."""
        name = model_name(call.args["name"])
        call.about.tell(model=name)
        folder, size = await _checked(call.args["folder"])
        model = Model(name, folder, time.time())
        self._models.add(model)
        return _status(model, size, "")

    async def listed(self, _call: Call) -> ModelList:
        """Return all models, and what is wrong with those that cannot be used any more."""
        return ModelList(tuple([await _looked_at(model) for model in self._models.all()]))

    async def remove(self, call: Call) -> ModelStatus:
        """Forget a name; the folder stays, and apps that are served keep using it. Raises :class:`NotFound`."""
        name = model_name(call.args["name"])
        call.about.tell(model=name)
        return await _looked_at(self._models.remove(name))

    async def with_folders(self, spec: AppSpec) -> AppSpec:
        """Return the spec with the folders of the models that its command names.

        Raises :class:`InvalidInput` for a folder that is gone or that apps cannot read any more.
        """
        names = model_names(spec)
        known = {model.name: model.folder for model in self._models.all() if model.name in names}
        folders = {**known, **{path: path for path in sorted(model_paths(spec))}}
        found = []
        for name, folder in folders.items():
            try:
                found.append((name, (await _checked(folder))[0]))
            except InvalidInput as error:
                why = f"model '{name}' of app '{spec.key}': {error.message}"
                raise InvalidInput(why, hint=error.hint) from error
        return dataclasses.replace(spec, models=tuple(found))


async def _checked(folder: str) -> tuple[str, int]:
    """Do as :func:`checked`, in a thread, for the loop's sake. Raises :class:`InvalidInput`, also if slow."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(checked, folder), LOOK_S)
    except TimeoutError:
        raise InvalidInput(
            f"the model's folder {printable(folder)} could not be read within {LOOK_S:.0f} s", hint=f"ls -lR {folder}"
        ) from None


async def _looked_at(model: Model) -> ModelStatus:
    try:
        return _status(model, (await _checked(model.folder))[1], "")
    except InvalidInput as error:
        return _status(model, 0, error.message)


def _status(model: Model, size: int, problem: str) -> ModelStatus:
    return ModelStatus(model.name, model.folder, size, problem, model.added_at)
