"""A driver of NVIDIA's, made of small libraries with its names, and CDI specs that list them."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyted.plan.gpus.queue import LOOK_S
from tests.machine.kit.users import by

ETC, RUN = Path("/etc/cdi"), Path("/run/cdi")
FOLDER = Path("/usr/lib/x86_64-linux-gnu")
SMI = Path("/usr/bin/nvidia-smi")
NVML = Path("/usr/local/lib/libnvidia-ml.so.1")  # the fake of kit/gpus.py, which the helper loads


_MADE: list[Path] = []


@dataclass
class Driver:
    """The files of one version."""

    version: str
    smi: Path
    files: list[Path] = field(default_factory=list)

    def library(self, name: str, soname: str = "") -> Path:
        """A library that says of which version it is: 570.1 → 5701."""
        path = FOLDER / f"{name}.so.{self.version}"
        number = self.version.replace(".", "")
        words = ["gcc", "-shared", "-fPIC", "-x", "c", "-o", str(path), f"-Wl,-soname,{soname or path.name}", "-"]
        subprocess.run(words, input=f"int driver(void) {{ return {number}; }}\n", text=True, check=True)
        self.files.append(path)
        _MADE.extend((path, path.with_name(soname or path.name)))
        return path

    def spec(self, path: Path, *env: str, more: Sequence[tuple[object, str]] = ()) -> None:
        """Write a spec as NVIDIA's tool does, in JSON or YAML. ``more``: (here, in a container)."""
        mounts = [*((each, str(each)) for each in (*self.files, self.smi)), (NVML, f"{FOLDER}/{NVML.name}"), *more]
        link = ["nvidia-cdi-hook", "create-symlinks", "--link", f"libcuda.so.1::{FOLDER}/libcuda.so"]
        cache = ["nvidia-cdi-hook", "update-ldcache", "--folder", str(FOLDER)]
        hooks = [{"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook", "args": a} for a in (link, cache)]
        data: dict[str, Any] = {
            "cdiVersion": "0.5.0", "kind": "nvidia.com/gpu",
            "devices": [{"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}]}}],
            "containerEdits": {
                "env": ["NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_CTK=1", *env], "hooks": hooks,
                "mounts": [{"hostPath": str(here), "containerPath": there, "options": ["ro", "nosuid", "bind"]}
                           for here, there in mounts],
            },
        }  # fmt: skip
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".json":
            path.write_text(json.dumps(data))
        else:
            import yaml

            path.write_text(yaml.safe_dump(data))
        path.chmod(0o644)
        forgotten()


def forgotten() -> None:
    """Wait until flyted uses no look at the GPUs, and so at the driver, of before."""
    time.sleep(LOOK_S + 0.1)


@contextlib.contextmanager
def installed(version: str) -> Iterator[Driver]:
    """A driver of this version in the place of any other; afterwards there is none, and no spec."""
    _remove()
    made = Driver(version, SMI)
    for name in ("libcuda", "libnvidia-ptxjitcompiler"):
        made.library(name, f"{name}.so.1")
    SMI.write_text(f"#!/bin/sh\necho smi {version}\n")
    SMI.chmod(0o755)
    _MADE.append(SMI)
    _ldconfig()
    forgotten()
    try:
        yield made
    finally:
        _remove()
        shutil.rmtree(RUN, ignore_errors=True)
        (ETC / "nvidia.json").unlink(missing_ok=True)


def _remove() -> None:
    while _MADE:
        _MADE.pop().unlink(missing_ok=True)
    _ldconfig()


def _ldconfig() -> None:
    subprocess.run(["ldconfig"], check=True)


def findings() -> list[dict[str, Any]]:
    """What doctor says about the driver's files."""
    checks = json.loads(by("alice", "flytectl", "doctor", "--json").stdout)["checks"]
    return [check for check in checks if check["name"] == "gpu driver"]
