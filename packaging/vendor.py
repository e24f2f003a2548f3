"""vendor.py WHEELS DEST: unpack the locked wheels into one tree for several Pythons; the same bytes every time.

    DEST/sdk        pure and abi3 wheels, for all
    DEST/sdk/cpXY   wheels for CPython X.Y only; goes in front of sdk/ on the path
    DEST/nvml       nvidia-ml-py, for the GPU helper alone: no app shall find it on its path
    DEST/bin/uv     the one program among the wheels' scripts that is needed

No pip, no environment: nothing here depends on where or when it is unpacked. RECORD is left out: it would list
files that are left out too.
"""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

# Tests, type stubs and C sources are half of the files and are never imported.
LEFT_OUT = re.compile(r"(^|/)tests?/|\.(pyi|pyx|pxd|c|h)$|\.dist-info/(RECORD|WHEEL|INSTALLER|direct_url\.json)$")
SCRIPTS = {"uv"}
APART = {"nvidia_ml_py": "nvml"}


@dataclass(frozen=True)
class Wheel:
    """A wheel's file and what its name says (PEP 427)."""

    path: Path
    name: str
    python: str
    abi: str

    @property
    def for_all(self) -> bool:
        return self.abi in {"abi3", "none"}


def wheels(folder: Path) -> list[Wheel]:
    """All wheels to unpack; one that is for one Python only gives way to an abi3 wheel of the same project."""
    found = [
        Wheel(path, path.name.split("-")[0], *path.stem.split("-")[-3:-1]) for path in sorted(folder.glob("*.whl"))
    ]
    for_all = {wheel.name for wheel in found if wheel.for_all}
    return [wheel for wheel in found if wheel.for_all or wheel.name not in for_all]


def destination(wheel: Wheel, name: str) -> PurePosixPath | None:
    """Where below DEST the member ``name`` goes; None if it is left out. ValueError if it would leave DEST."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{wheel.path.name}: {name} leaves its folder")
    if name.endswith("/") or LEFT_OUT.search(name):
        return None
    if wheel.name in APART:
        return PurePosixPath(APART[wheel.name]) / path if path.name != "example.py" else None
    root = PurePosixPath("sdk") if wheel.for_all else PurePosixPath("sdk", wheel.python)
    if not path.parts[0].endswith(".data"):
        return root / path
    kind, rest = path.parts[1], PurePosixPath(*path.parts[2:])
    if kind == "scripts":
        return PurePosixPath("bin") / rest if str(rest) in SCRIPTS else None
    return root / rest if kind in {"purelib", "platlib"} else None


def unpack(wheel: Wheel, dest: Path) -> Iterator[str]:
    """Write the wheel's files; yields its line for the list of what is vendored."""
    with zipfile.ZipFile(wheel.path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".dist-info/METADATA"):
                meta = HeaderParser().parsestr(archive.read(name).decode())
                licence = meta["License-Expression"] or next(
                    (
                        c.rsplit(" :: ", 1)[-1]
                        for c in meta.get_all("Classifier", [])
                        if c.startswith("License ::") and c.count("::") > 1
                    ),
                    (meta["License"] or "see its metadata").splitlines()[0][:60],
                )
                yield f"{meta['Name']} {meta['Version']}: {licence}"
            where = destination(wheel, name)
            if where is None:
                continue
            path = dest / where
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.read_bytes() != archive.read(name):
                raise ValueError(f"{wheel.path.name}: {where} is another wheel's file too")
            with archive.open(name) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
            path.chmod(0o755 if where.parts[0] == "bin" else 0o644)


def main(folder: str, dest: str) -> None:
    found = wheels(Path(folder))
    if not found:
        sys.exit(f"{folder}: no wheels; packaging/fetch brings them")
    lines = sorted({line for wheel in found for line in unpack(wheel, Path(dest))}, key=str.lower)
    print("\n".join(lines))  # noqa: T201  the list is the answer


if __name__ == "__main__":
    main(*sys.argv[1:])
