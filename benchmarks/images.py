"""What an image costs whose packages are fetched already, beside plain uv: with and without another image's byte code.

Both install the same requirements, from caches of their own that are warm, and compile them; uv in one step, a build
layer by layer, in its unit, with a look for the Python that the image asks for.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from flyted.contract.answers.events import Event
from flyted.daemon.images import venvs
from flyted.plan.images.build_unit import BuildSettings
from flyted.plan.images.recipe import Install, Recipe
from tests.machine.kit.units import connected
from tests.machine.kit.users import answer

UV = "/usr/lib/flyted/bin/uv"
IMAGES = Path("/var/lib/flyted/images")
PLAIN = Path("/var/lib/figure-uv")
DIGEST = "f" * 32
UNIT = (
    "systemd-run", "--quiet", "--wait", "--collect", "--property=CPUWeight=20", "--property=IOWeight=20",
    f"--setenv=UV_CACHE_DIR={PLAIN}/cache", "--setenv=UV_SYSTEM_CERTS=1",
)  # fmt: skip
ROUNDS = 3
Promise = Callable[..., None]


def recipe_of(image: str) -> Recipe:
    """The recipe in the record of an image."""
    known = json.loads(Path(image, "image.json").read_text())["recipe"]
    installs = (
        Install(each["source"], tuple(each["requirements"]), tuple(each["options"])) for each in known["installs"]
    )
    return Recipe(known["python"], tuple(installs))


def build_s(recipe: Recipe, *, byte_code: bool) -> float:
    """One build by the daemon's own means, in seconds; without ``byte_code`` no module was ever compiled."""
    said: list[str] = []
    others = [path.name for path in IMAGES.glob("[0-9a-f]*")]

    async def emit(event: Event) -> None:
        said.append(event.text)

    async def work() -> float:
        async with connected() as units:
            began = time.perf_counter()
            await venvs.run(units, DIGEST, recipe, BuildSettings(), others, emit)
            return time.perf_counter() - began

    store, away = IMAGES / ".bytecode", IMAGES / ".bytecode-away"
    if not byte_code:
        store.rename(away)
    taken = asyncio.run(work())
    assert (IMAGES / DIGEST / "image.json").exists(), "\n".join(said)
    shutil.rmtree(IMAGES / DIGEST)
    if not byte_code:
        shutil.rmtree(store)
        away.rename(store)
    return taken


def plain_s(recipe: Recipe) -> float:
    """The same requirements by uv alone, with a build's share of a busy machine, in seconds."""
    shutil.rmtree(PLAIN / "env", ignore_errors=True)
    packages = [requirement for install in recipe.installs for requirement in install.requirements]
    began = time.perf_counter()
    for words in (
        ("venv", "--python", "/usr/bin/python3", f"{PLAIN}/env"),
        ("pip", "install", "--only-binary=:all:", "--compile-bytecode", "--python", f"{PLAIN}/env", *packages),
    ):
        subprocess.run([*UNIT, UV, "--quiet", *words], check=True)
    return time.perf_counter() - began


def images(promise: Promise) -> None:
    """Builds of the image that an app has, in turns with plain uv."""
    recipe = recipe_of(answer("app", "get", "authenticated-api")["image"]["path"])
    PLAIN.mkdir(exist_ok=True)
    plain_s(recipe)
    build_s(recipe, byte_code=True)
    plain, shared, first = [], [], []
    for _ in range(ROUNDS):
        plain.append(plain_s(recipe))
        shared.append(build_s(recipe, byte_code=True))
        first.append(build_s(recipe, byte_code=False))
    shutil.rmtree(PLAIN)
    alone, again, new = (statistics.median(each) for each in (plain, shared, first))
    promise("a new image / uv, byte code shared", again / alone, 1, "x", f"{again:.1f} s / {alone:.1f} s")
    promise("a new image / uv, nothing compiled yet", new / alone, 1.5, "x", f"{new:.1f} s / {alone:.1f} s")
