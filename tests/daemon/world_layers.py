"""Layers of images on the machine in memory: units that make and remove them, and a registry that answers or not."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flyted.layers import words
from flyted.plan.facts import UnitEnd
from flyted.registry import words as pulls
from tests.daemon.world_steps import say

MANIFEST, BLOB = "sha256:" + "d" * 64, "sha256:" + "e" * 64

TAKES = 1000
"""Bytes that a layer takes."""


class Layers:
    """What the units do. ``step_s``: how long one takes; ``fails``: a text of the steps that fail."""

    blob, manifest = BLOB, MANIFEST

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.step_s, self.fails, self.registry = 2.0, "", False
        self.lacks = False  # whether the registry answers that it has no such image
        self.checked = 0  # how often mirrors were asked what they are
        self.made: list[str] = []  # the text of each job that was begun
        self.pulled: list[str] = []  # the names that a registry was asked for
        self.files: dict[str, str] = {}  # what each layer has, beside a Python, and the targets of its links
        self.links: dict[str, str] = {}

    async def run(self, name: str, wanted: Mapping[str, Any]) -> UnitEnd:
        """Do what a unit does."""
        argv = wanted["ExecStartEx"][0][1]
        if name == "flyted-pull-removal.service":
            shutil.rmtree(self.folder / "blobs")
            return UnitEnd("success", 0)
        if pulls.CHECK in argv:
            self.checked += 1
            await asyncio.sleep(0.01)
            say(wanted, *(f"{pulls.OURS}mirror {each.partition('=')[0]} answers: it does" for each in argv[5::2]))
            return UnitEnd("success", 0)
        if words.REMOVE in argv:
            for layer in argv[argv.index(words.REMOVE) + 1 :]:
                shutil.rmtree(self.folder / "layers" / layer, ignore_errors=True)
            return UnitEnd("success", 0)
        if name.startswith("flyted-pull-"):
            image = argv[argv.index(pulls.PULL) + 1]
            return await self._pull(image, wanted, known_only=pulls.RESOLVE_ONLY in argv)
        return await self._make(wanted)

    async def _make(self, wanted: Mapping[str, Any]) -> UnitEnd:
        text = dict(wanted["SetCredential"])[words.JOB].decode()
        job = json.loads(text)
        self.made.append(text)
        folder = self.folder / "layers" / job["layer"]
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "diff").mkdir(parents=True)
        say(wanted, f"{words.OURS}beginning")
        await asyncio.sleep(self.step_s)
        if self.fails and self.fails in text:
            say(wanted, "E: Unable to locate package nope", f"{words.OURS}it exited with status 100")
            shutil.rmtree(folder)
            return UnitEnd("exit-code", words.EX_STEP)
        for parent in job["parents"]:
            assert (self.folder / "layers" / parent / "diff").is_dir(), parent
        (folder / "diff/opt/venv/bin").mkdir(parents=True)
        (folder / "diff/opt/venv/bin/python").symlink_to("/usr/bin/python3.12")
        (folder / "diff/usr/bin").mkdir(parents=True)
        (folder / "diff/usr/bin/python3.12").touch()
        for path, text in self.files.items():
            (folder / "diff" / path).write_text(text)
        for path, target in self.links.items():
            (folder / "diff" / path).symlink_to(target)
        say(wanted, f"{words.OURS}takes {TAKES} bytes")
        return UnitEnd("success", 0)

    async def _pull(self, name: str, wanted: Mapping[str, Any], *, known_only: bool) -> UnitEnd:
        self.pulled.append(name)
        await asyncio.sleep(self.step_s)
        if self.lacks:
            say(wanted, f"{pulls.OURS}registry has no {name}")
            return UnitEnd("exit-code", pulls.EX_NOTFOUND)
        if not self.registry:
            say(wanted, f"{pulls.OURS}registry does not answer")
            return UnitEnd("exit-code", pulls.EX_UNAVAILABLE)
        layer = {"digest": self.blob, "media": "tar", "size": 1, "diff_id": self.blob}
        record = {
            "format": pulls.FORMAT, "reference": name, "platform": "linux/amd64", "manifest": self.manifest,
            "layers": [layer], "image": {"config": {"Env": ["A=1"]}},
        }  # fmt: skip
        kind = pulls.RESOLVED if known_only else pulls.PULLED
        for path, text in ((kind, json.dumps(record)), *([] if known_only else [("sha256", "blob")])):
            (self.folder / "blobs" / path).mkdir(parents=True, exist_ok=True)
            file = f"{self.manifest[7:]}.json" if path == kind else self.blob[7:]
            (self.folder / "blobs" / path / file).write_text(text)
        say(wanted, f"{pulls.OURS}{name} is {name.partition('@')[0].rpartition(':')[0] or name}@{self.manifest}")
        return UnitEnd("success", 0)
