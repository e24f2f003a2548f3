"""Folders are walls: what each may import is one table. tests/test_walls.py checks it, ARCHITECTURE.md prints it."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for top in ("flyted", "flytectl") for path in (ROOT / top).rglob("*.py"))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """Return a file's syntax tree; a file is read once for all rules."""
    return ast.parse(path.read_text())


@dataclass(frozen=True)
class Wall:
    """What one folder may import: of ours, of others (package → the only files that may; empty = all), and why."""

    ours: tuple[str, ...]
    others: dict[str, tuple[str, ...]]
    why: str
    never: tuple[str, ...] = field(default=())


WALLS = {
    "flyted.contract": Wall((), {"msgpack": ("wire",)}, "the only words that all processes share"),
    "flyted.base": Wall(
        (), {}, "what several folders need of Python: systemd's protocols, whole files, background tasks"
    ),
    "flyted.plan": Wall(
        (
            "flyted.contract",
            "flyted.launch.words",
            "flyted.build.words",
            "flyted.layers.words",
            "flyted.registry.words",
            "flyted.registry.reference",
            "flyted.acme.words",
        ),
        {},
        "pure: facts in, values out",
        never=("flyted.contract.client", "flyted.contract.wire"),
    ),
    "flyted.host": Wall(
        (
            "flyted.base",
            "flyted.contract",
            "flyted.plan.facts",
            "flyted.plan.unit_index",
            "flyted.plan.actions",
            "flyted.plan.tokens",
            "flyted.plan.gpus.facts",
            # HAProxy's language: how its state, commands and answers are written, which counters it has
            "flyted.plan.ingress",
            "flyted.plan.idle",
        ),
        {"pystemd": ("units", "signatures", "bus"), "cryptography": ()},
        "the machine, one file per thing touched; no decisions",
    ),
    "flyted.daemon": Wall(
        ("flyted.base", "flyted.contract", "flyted.plan", "flyted.host", "flyted.build.words"),
        {},
        "runs as root: wires plan to host; never sees the SDK",
    ),
    "flyted.gateway": Wall(
        ("flyted.base", "flyted.contract", "flyted.plan.crowd"),
        {"connectrpc": (), "flyteidl2": (), "google": (), "uvicorn": ("__main__",)},
        "runs as a user of its own, on the SDK's packages: translates, and has no right that its caller has not",
    ),
    "flyted.launch": Wall(
        (),
        {"flyte": ("parameters", "control_plane", "fetch", "endpoints"), "uvicorn": ()},
        "runs inside each app, with the app's Python and packages: stdlib, and what the app itself brings, late",
    ),
    "flyted.gpu": Wall(
        ("flyted.base",),
        {"pynvml": (), "yaml": ("driver",)},
        "runs NVIDIA's library in a process of its own without rights: tells what there is, decides nothing",
    ),
    "flyted.build": Wall((), {}, "runs inside an image build as a user without rights: stdlib only"),
    "flyted.layers": Wall(
        (),
        {"zstandard": ("compression",)},
        "runs inside a step that makes a layer of an image, as a user without rights: stdlib, and zstd",
    ),
    "flyted.net": Wall(
        ("flyted.base",),
        {},
        "makes the network of apps: in namespaces of its own or an app's, never in the machine's",
    ),
    "flyted.mdns": Wall(
        ("flyted.base",),
        {"pystemd": ("avahi",)},
        "has Avahi announce apps, as a user without rights",
    ),
    "flyted.freeze": Wall((), {}, "runs as root without capabilities: stdlib only"),
    "flyted.registry": Wall(
        (), {}, "runs inside the pull of an image as a user without rights, and talks to strangers: stdlib only"
    ),
    "flyted.acme": Wall(
        (), {}, "runs lego in the order of a certificate, as a user of its own without rights: stdlib only"
    ),
    "flyted.companion": Wall(
        (),
        {"flyte": (), "flyteidl2": ("deployment", "image_build"), "click": (), "yaml": ("target",)},
        "runs inside the user's `flyte`, called by the SDK's own plug-in hooks: what the SDK itself brings",
    ),
    "flytectl": Wall(
        ("flyted.contract",), {"click": ()}, "the user's command: talks to the daemon, imports none of it"
    ),
    "flytectl.loader": Wall(
        (),
        {"flyte": (), "flyteidl2": (), "google": ()},
        "runs in the user's Python: the SDK, and nothing of ours but its own folder",
    ),
}


def walls_table() -> str:
    """Return the table as Markdown, as ARCHITECTURE.md has it."""
    rows = ["| folder | may import of ours | of others | because |", "|---|---|---|---|"]
    for folder, wall in WALLS.items():
        ours = ", ".join(f"`{name}`" for name in wall.ours) or "nothing"
        others = ", ".join(
            f"`{name}`" + (f" (in {', '.join(f'`{f}.py`' for f in files)})" if files else "")
            for name, files in wall.others.items()
        )
        rows.append(f"| `{folder}` | {ours} | {others or 'the standard library only'} | {wall.why} |")
    return "\n".join(rows) + "\n"
