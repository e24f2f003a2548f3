"""Finds the command to type when the import of a file lacks a package, one that works on Debian.

Debian's own Python takes no packages from pip (EXTERNALLY-MANAGED, PEP 668), an environment that uv made has no pip,
and the uv that comes with flytectl is not on ``PATH``. So every command here names the uv that is installed.
"""

from __future__ import annotations

import ast
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flytectl import pythons

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flytectl.pythons import Python

SDK = f"flyte=={pythons.SDK_VERSION}"
PLACEHOLDER = "PACKAGE"
# Modules whose package has another name on PyPI.
PACKAGES = {
    "Crypto": "pycryptodome",
    "MySQLdb": "mysqlclient",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "pymupdf",
    "git": "gitpython",
    "grpc": "grpcio",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "magic": "python-magic",
    "multipart": "python-multipart",
    "pkg_resources": "setuptools",
    "psycopg2": "psycopg2-binary",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "yaml": "pyyaml",
}
_READ = 1 << 20  # bytes; a larger file is not searched for imports
NAMESPACES = frozenset({"azure", "flyteplugins", "google", "opentelemetry"})  # many packages share each of these


def package_of(module: str) -> str:
    """Return PyPI's name for the package of ``module``: from the list above, else the module's; PACKAGE if unknown."""
    top, _, rest = module.partition(".")
    if top == "flyteplugins" and rest:
        return f"flyteplugins-{rest.partition('.')[0]}"
    return PACKAGES.get(top) or (PLACEHOLDER if not top or top in NAMESPACES else top)


def modules_of(file: Path) -> list[str]:
    """Return the modules that ``file`` imports, without Python's, the SDK's, and those beside it.

    Return [] if the file cannot be read or parsed, or is larger than ``_READ`` bytes.
    """
    try:
        with file.open("rb") as source:
            text = source.read(_READ + 1)
        tree = ast.parse(text if len(text) <= _READ else b"")
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=str(module), level=0):
                found.add(module)
    return sorted(module for module in found if _is_packaged(module.partition(".")[0], file))


def _is_packaged(top: str, file: Path) -> bool:
    beside = (folder / name for folder in (file.parent, Path()) for name in (top, f"{top}.py"))
    return top not in sys.stdlib_module_names and top != "flyte" and not any(os.path.lexists(path) for path in beside)


def shown_uv(environ: Mapping[str, str]) -> str:
    """Return uv as the user can type it: their own, or the one of this package with the system's certificates."""
    if shutil.which("uv", path=environ.get("PATH")) is None and pythons.UV.is_file():
        return f"{pythons.UV} --system-certs"
    return "uv"


def into(python: Python, environ: Mapping[str, str], *packages: str) -> str:
    """Return the command that installs ``packages`` for this Python; "" if none may be installed (Debian's own)."""
    folder = Path(python.program).parent.parent  # not resolved: the Python of an environment is a link
    if not any(os.path.exists(folder / mark) for mark in ("pyvenv.cfg", "conda-meta")):  # noqa: PTH110  never raises
        return ""
    words = shlex.join(["pip", "install", "--python", python.program, *packages])
    return f"{shown_uv(environ)} {words}"


def a_new_environment(environ: Mapping[str, str], file: Path, *packages: str) -> str:
    """Return the commands that make an environment with ``packages`` and serve ``file`` with it."""
    uv, wanted, name = shown_uv(environ), shlex.join(packages), shlex.quote(file.name)
    return f"{uv} venv .venv && {uv} pip install --python .venv {wanted} && flytectl serve --python .venv {name}"


def the_sdk(python: Python, environ: Mapping[str, str], file: Path) -> str:
    """Return what to type if ``python`` has no Flyte SDK, or one that flytectl cannot use."""
    if python.origin == "script":
        return f'add "{SDK}" to the dependencies in the script block of {file.name}'
    command = into(python, environ, SDK)
    if python.origin == "environment":
        return f"{_type(command)}leave the environment (deactivate) to use flytectl's own SDK"
    if python.origin == "option":
        return f"{_type(command)}omit --python to use flytectl's own SDK"
    return "reinstall the package flyted, which contains the SDK; or choose a Python that has it: --python PATH"


def a_module(python: Python, environ: Mapping[str, str], file: Path, module: str) -> str:
    """Return what to type if the import of ``file`` found no ``module`` ("" if its name is not known)."""
    imported = modules_of(file)
    package = package_of(next((each for each in imported if each.startswith(f"{module}.")), module))
    aside = f" ({PLACEHOLDER}: the missing package's name on PyPI)" if package == PLACEHOLDER else ""
    if python.origin == "script":
        return f'add "{package}" to the dependencies in the script block of {file.name}{aside}'
    command = into(python, environ, package)
    if command:
        return f"type: {command}{aside}"
    others = {package_of(each) for each in imported} - {PLACEHOLDER}  # a new environment needs all of them
    needed = sorted({package, *others})
    listed = ", ".join(f'"{each}"' for each in ("flyte", *needed))
    return "\n".join(
        (
            f"list the packages in the first lines of {file.name}, and flytectl installs them{aside}:",
            "  # /// script",
            f"  # dependencies = [{listed}]",
            "  # ///",
            f"or: {a_new_environment(environ, file, SDK, *needed)}",
        )
    )


def _type(command: str) -> str:
    return f"type: {command}; or " if command else ""
