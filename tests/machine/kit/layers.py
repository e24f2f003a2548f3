"""Layers for tests: jobs, run as flyted runs them, and looks into what they made."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import platform
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyted.contract.errors import BuildFailed
from flyted.host.network import nameservers
from flyted.host.output import lines_to
from flyted.layers import kernel, words
from flyted.layers.job import parse
from flyted.plan.facts import UnitEnd
from flyted.plan.images.canonical import canonical
from flyted.plan.images.layer_unit import (
    LAYERS,
    LayerSettings,
    layer_failure,
    layer_unit,
    layer_unit_name,
    remove_layers_unit,
    split_size,
)
from flyted.plan.images.layers import plan_of
from flyted.plan.images.root import DebianBase, LayerJob, RootPlan, RootRecipe, Stage
from flyted.plan.images.root_record import LayerRecord, layer_text
from tests.machine.kit.units import connected, sh
from tests.machine.kit.users import until
from tests.share import once_per_machine

BASE = words.BASE
BLOBS = Path("/var/lib/flyted/blobs/sha256")
BUNDLES = Path("/var/lib/flyted/bundles")
BASE_MADE = Path("/run/flyted-test-base-layer")
RECORDS = Path("/var/lib/flyted/roots/layers")
REMOVAL = "flyted-layer-removal.service"
SUITE = next(
    line.partition("=")[2].strip('"')
    for line in Path("/etc/os-release").read_text().splitlines()
    if line.startswith("VERSION_CODENAME=")
)
TIMEOUT_S = 400


@dataclass(frozen=True)
class Made:
    """How the unit of a layer ended, and all lines that it printed but what the layer takes of the disk, in bytes."""

    layer: str
    show: str
    end: UnitEnd
    lines: list[str]
    takes: int | None
    settings: LayerSettings = field(default_factory=LayerSettings)

    @property
    def ok(self) -> bool:
        """Whether the layer is whole."""
        return self.end == UnitEnd("success", 0)

    @property
    def text(self) -> str:
        """All that was printed."""
        return "\n".join(self.lines)

    @property
    def failure(self) -> BuildFailed:
        """The error that a user gets."""
        return layer_failure(self.show, self.end.result, self.end.status, self.lines, self.settings)


def name(text: str) -> str:
    """The id of a layer of a test."""
    return hashlib.sha256(f"test {text}".encode()).hexdigest()[:32]


def diff(layer: str, path: str = "") -> Path:
    """A file of a layer, as it lies on the machine's disk."""
    return Path(LAYERS, layer, words.DIFF, path)


def job(layer: str, parents: Iterable[str], step: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A job as the daemon writes it."""
    base = {"format": words.FORMAT, "layer": layer, "parents": list(parents), "env": {}, "cwd": "/", "user": "root"}
    return {**base, "step": step, **more}


def debian(suite: str, *packages: str) -> dict[str, Any]:
    """The step that installs a Debian."""
    return {"kind": "debian", "suite": suite, "packages": list(packages)}


def shell(script: str, **more: Any) -> dict[str, Any]:
    """The step that runs a script."""
    step = {"kind": "run", "argv": ["/bin/sh", "-ec", script], "show": script.strip().split("\n", 1)[0][:60]}
    return {**step, "mounts": [], "caches": [], "secrets": [], **more}


def copy(folder: str, source: str, target: str, owner: str = "0:0") -> dict[str, Any]:
    """The step that copies files."""
    return {"kind": "copy", "folder": folder, "source": source, "target": target, "owner": owner}


def make(
    layer: str,
    parents: Iterable[str],
    step: dict[str, Any],
    *,
    network: bool = False,
    credentials: dict[str, str] | None = None,
    settings: dict[str, Any] | None = None,
    then: Callable[[], None] | None = None,
    **more: Any,
) -> Made:
    """Make a layer by the unit that flyted makes; see :func:`run`."""
    made = job(layer, parents, step, **more)
    return run(made, network=network, credentials=credentials, settings=settings, then=then)


def run(
    made: dict[str, Any],
    *,
    network: bool = False,
    credentials: dict[str, str] | None = None,
    settings: dict[str, Any] | None = None,
    then: Callable[[], None] | None = None,
) -> Made:
    """Have a job done. ``credentials``: the files that stand for flyted's answers.

    ``then``: called when the step has printed "ready".
    """
    return asyncio.run(_run(made, network, credentials, settings, then))


async def _run(
    made: dict[str, Any],
    network: bool,
    credentials: dict[str, str] | None,
    settings: dict[str, Any] | None,
    then: Callable[[], None] | None,
) -> Made:
    lines: list[str] = []
    step = made["step"]
    text = canonical(made).encode()

    async def heard(text: str) -> None:
        lines.append(text)
        if then and text == "ready":
            await asyncio.to_thread(then)

    async with connected() as units, lines_to(heard) as pipe:
        given = LayerSettings(nameservers=tuple(nameservers()), output_fd=pipe, **(settings or {}))
        secrets = [each["credential"] for each in step.get("secrets", ())]
        properties = layer_unit(
            made["layer"],
            text,
            given,
            network=network,
            bundles=parse(text).folders,
            blobs=[step["blob"].partition(":")[2]] if "blob" in step else [],
            secrets=secrets,
        )
        if credentials:
            properties["LoadCredential"] = list(credentials.items())
        async with asyncio.timeout(TIMEOUT_S):
            end = await units.run_transient(layer_unit_name(made["layer"]), properties)
    last, takes = split_size(lines[-1]) if lines else ("", None)
    said = [*lines[:-1], *([last] if last else [])] if takes is not None else lines
    return Made(made["layer"], step.get("show", step["kind"]), end, said, takes, given)


def remove(*layers: str) -> UnitEnd:
    """Remove layers by the unit that flyted makes."""

    async def work() -> UnitEnd:
        async with connected() as units:
            return await units.run_transient("flyted-layers-test-removal.service", remove_layers_unit(layers))

    return asyncio.run(work())


def oci(digest: str) -> dict[str, Any]:
    """The step that unpacks a layer of a pulled image."""
    return {"kind": "oci", "blob": f"sha256:{digest}", "media": "application/vnd.oci.image.layer.v1.tar+gzip"}


def busybox(layer: str) -> Made:
    """A layer that stands on nothing: one program, without a library, as /sh."""
    return make(
        layer, [], copy(bundle([member("sh", Path("/usr/bin/busybox").read_bytes(), mode=0o755)]), "sh", "/sh")
    )


def bundle(members: Iterable[tuple[tarfile.TarInfo, bytes]], *, packed: bytes | None = None) -> str:
    """A bundle with these members, in flyted's store; its digest. ``packed``: the whole file, instead."""
    if packed is None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1, format=tarfile.PAX_FORMAT) as archive:
            for member, content in members:
                archive.addfile(member, io.BytesIO(content))
        packed = out.getvalue()
    digest = hashlib.sha256(packed).hexdigest()
    path = BUNDLES / f"{digest}.tar.gz"
    path.write_bytes(packed)
    path.chmod(0o644)
    return digest


def blob(digest: str) -> Path:
    """A bundle as a blob of a pulled image."""
    BLOBS.mkdir(parents=True, exist_ok=True)
    return (BUNDLES / f"{digest}.tar.gz").rename(BLOBS / digest)


def member(path: str, content: bytes | None = None, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """One member of a bundle: a file with ``content``, else what ``fields`` say (``type``, ``linkname``, ``mode``)."""
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(content or b""), 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content or b""


@contextlib.contextmanager
def mounted(*layers: str) -> Iterator[Path]:
    """The layers as an app would have them, mounted by real root, the lowest first."""
    target = Path("/run/flyted-test-layers")
    for each in ("m", "u", "w"):
        (target / each).mkdir(parents=True, exist_ok=True)
    lower = ":".join(str(diff(each)) for each in reversed(layers))
    options = f"lowerdir={lower},upperdir={target}/u,workdir={target}/w,userxattr"
    kernel.mount("overlay", str(target / "m"), "overlay", kernel.NOSUID | kernel.NODEV, options)
    try:
        yield target / "m"
    finally:
        subprocess.run(["umount", target / "m"], check=True)
        subprocess.run(["rm", "-rf", target], check=True)


def listed(folder: str | Path) -> list[str]:
    """The names in a folder, sorted."""
    return sorted(each.name for each in Path(folder).iterdir())


def processes(user: int = BASE) -> list[str]:
    """The names of the processes that run as a user of layers."""
    found = []
    for each in filter(str.isdigit, listed("/proc")):
        with contextlib.suppress(OSError):
            if user <= Path(f"/proc/{each}").stat().st_uid < user + words.IDS:
                found.append(Path(f"/proc/{each}/comm").read_text().strip())
    return found


def made_by(job: LayerJob, **more: Any) -> Made:
    """Make a layer of a plan, with a network if it is a command or a Debian; it has to end well."""
    done = run(job.job, network=job.job["step"]["kind"] in ("run", "debian"), **more)
    assert done.ok, f"{done.show}:\n{done.text}"
    return done


def planned(recipe: RootRecipe) -> RootPlan:
    """What to make on this machine."""
    return plan_of(recipe, platform.machine(), {})


DEBIAN = DebianBase(SUITE, ("ca-certificates", "python3"))
(BASE_JOB,) = planned(RootRecipe((Stage(DEBIAN),))).jobs


def base() -> str:
    """A Debian of this machine's release with Python, made once per boot: tests stand on it, and none changes it.

    It has a record, as flyted would write it: flyted removes a layer without one at the next deploy of another module.
    """
    until(lambda: sh("systemctl", "is-active", REMOVAL) not in ("active", "activating", "deactivating"), 300)
    record = RECORDS / f"{BASE_JOB.id}.json"
    if not BASE_MADE.exists() or not record.exists() or not diff(BASE_JOB.id, "usr/bin/python3").exists():
        with once_per_machine():
            made_by(BASE_JOB)
        RECORDS.mkdir(parents=True, exist_ok=True)
        record.write_text(layer_text(BASE_JOB, LayerRecord("a Debian of the tests"), time.time()))
        BASE_MADE.touch()
    return BASE_JOB.id


@contextlib.contextmanager
def clean() -> Iterator[None]:
    """Nothing of a module's layers and bundles is left, but for :func:`base`."""
    bundles, layers = set(listed(BUNDLES)), set(listed(LAYERS))
    yield
    for each in set(listed(BUNDLES)) - bundles:
        (BUNDLES / each).unlink()
    gone = set(listed(LAYERS)) - layers - {BASE_JOB.id}
    assert not gone or remove(*gone) == UnitEnd("success", 0)
    assert not gone & set(listed(LAYERS))
