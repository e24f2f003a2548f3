"""Reports what an app keeps on disk, and what else is deleted with it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flyted.contract.answers.apps import AppFolder, Kept
from flyted.contract.errors import HostFailure, NotFound
from flyted.contract.names import AppKey
from flyted.daemon.api.verbs import APP_ARGS, Call, Right, Verb
from flyted.host.disk import is_folder
from flyted.host.store import Store
from flyted.host.tokens import Tokens
from flyted.plan.app_folders import LONGEST_S, folder_of, measure_unit

if TYPE_CHECKING:
    from flyted.host.units import Units

_FRESH_S = 10.0  # for so long an answer is used again, since each new one starts a unit
_MOST = 4096  # bytes of the counting unit's answer


def _nobody(_app_id: str, _found: AppFolder) -> None:
    """Hear of a size, and do nothing."""


def kept_key(store: Store, key: AppKey) -> AppKey:
    """Return the key with the id that its app has, or had when it was deleted while its data was kept."""
    found = store.find(key) or store.kept_data.find(key)
    return found.key if found else key


@dataclass
class AppData:
    """The handler of ``app.data``. Sizes are counted on request only."""

    units: Units
    store: Store
    tokens: Tokens
    _seen: dict[str, tuple[float, AppFolder]] = field(default_factory=dict)
    counted: Callable[[str, AppFolder], None] = _nobody
    """Hears of each size that is found, with the app's id."""

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        return {"app.data": Verb(Right.READ, APP_ARGS, self.data)}

    async def data(self, call: Call) -> Kept:
        """Return how much an app keeps on disk; also of an app that was deleted with its data kept.

        Raises :class:`NotFound` when there is neither, :class:`HostFailure` when the data cannot be counted.
        """
        key = call.app
        app = self.store.find(key)
        app_id = kept_key(self.store, key).id
        taken = app is None and app_id in self.store.ids()
        data = None if taken else await self.of(app_id)
        if app is None and data is None:
            raise NotFound(f"there is no app '{key}'", hint="flytectl app ls")
        return Kept(
            data,
            known=app is not None,
            revisions=len(app.revisions) if app else 0,
            tokens=sum(token.app_id == app_id for token in self.tokens.all()),
        )

    async def of(self, app_id: str) -> AppFolder | None:
        """Return how much is in the folder of an app's data; ``None`` if it has none. Raises :class:`HostFailure`."""
        folder = folder_of(app_id)
        if not is_folder(folder):
            self._seen.pop(app_id, None)
            return None
        seen = self._seen.get(app_id)
        if seen is not None and time.monotonic() - seen[0] < _FRESH_S:
            return seen[1]
        found = await self._measured(app_id, folder)
        self._seen[app_id] = time.monotonic(), found
        self.counted(app_id, found)
        return found

    def forget(self, app_id: str) -> None:
        """Forget how much there was: it has changed."""
        self._seen.pop(app_id, None)

    async def _measured(self, app_id: str, folder: str) -> AppFolder:
        output = os.memfd_create("size", os.MFD_CLOEXEC)
        try:
            await self.units.run_transient(
                f"flyted-data-{app_id}.service", measure_unit(app_id, output), LONGEST_S + 5
            )
            said = json.loads(os.pread(output, _MOST, 0))
            return AppFolder(
                folder, int(said["bytes"]), int(said["files"]), int(said["cache_bytes"]), said["complete"] is True
            )
        except (ValueError, KeyError, TypeError) as error:
            raise HostFailure(
                f"the data of app '{app_id}' could not be counted", hint=f"journalctl -u flyted-data-{app_id} -n 20"
            ) from error
        finally:
            os.close(output)
