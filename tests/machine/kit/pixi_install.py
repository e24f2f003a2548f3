"""pixi's `install`, by the library that pixi is made of (py-rattler): it solves, fetches and links, as pixi does.

Runs in an image, where no module of ours is. pixi itself comes from GitHub, which tests do not ask.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rattler import LockFile, MatchSpec, Subdir, VirtualPackage, install, solve  # type: ignore[import-not-found]

FORGE = "https://conda.anaconda.org/"
STALE = "Error: lock-file not up-to-date with the workspace"


def main() -> None:
    """Install an environment of a workspace."""
    parser = argparse.ArgumentParser(prog="pixi")
    parser.add_argument("command", choices=["install"])
    parser.add_argument("--manifest-path", type=Path, required=True)
    parser.add_argument("--environment", default="default")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--locked", action="store_true")
    how.add_argument("--frozen", action="store_true")
    given = parser.parse_args()
    manifest = tomllib.loads(given.manifest_path.read_text())
    if given.manifest_path.name == "pyproject.toml":
        manifest = manifest["tool"]["pixi"]
    folder = given.manifest_path.parent
    prefix = folder / ".pixi/envs" / given.environment
    asyncio.run(make(manifest, given, folder / "pixi.lock", prefix))
    if packages := wanted(manifest, given.environment, "pypi-dependencies"):
        named = [f"{name}{version if version != '*' else ''}" for name, version in packages.items()]
        cache = Path.home() / ".cache/rattler/cache/uv-cache"
        uv = ["uv", "pip", "install", "--python", f"{prefix}/bin/python", "--cache-dir", str(cache)]
        subprocess.run([*uv, *named], check=True)
    print(f"The {given.environment} environment has been installed.", file=sys.stderr)


async def make(manifest: Mapping[str, Any], given: argparse.Namespace, lock: Path, prefix: Path) -> None:
    """Install the packages of the lock or, without one, those that the channels have."""
    needed = wanted(manifest, given.environment, "dependencies")
    specs, here = [MatchSpec(f"{name} {version}") for name, version in needed.items()], Subdir.current()
    if given.locked or given.frozen:
        records = locked(lock, given.environment, str(here))
        if given.locked and not all(any(spec.matches(record) for record in records) for spec in specs):
            sys.exit(STALE)
    else:
        channels = [name if "://" in name else f"{FORGE}{name}" for name in manifest["workspace"]["channels"]]
        records = await solve(channels, specs, platforms=[here, "noarch"], virtual_packages=VirtualPackage.detect())
    await install(records, prefix, show_progress=False)


def locked(lock: Path, environment: str, platform: str) -> list[Any]:
    """The packages of an environment in the lock."""
    found = LockFile.from_path(lock).environment(environment) if lock.exists() else None
    records = found.conda_repodata_records().get(platform) if found is not None else None
    if not records:
        sys.exit(STALE)
    return list(records)


def wanted(manifest: Mapping[str, Any], environment: str, table: str) -> dict[str, str]:
    """The requirements of an environment: the workspace's own, and those of its features."""
    features = manifest.get("environments", {}).get(environment, [])
    found = dict(manifest.get(table, {}))
    for feature in features:
        found |= manifest["feature"][feature].get(table, {})
    return found


if __name__ == "__main__":
    main()
