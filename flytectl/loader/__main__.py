"""Starts the loader: ``python flytectl/loader FILE --out-fd N --bundles-fd M …``."""

import importlib
import importlib.util
import sys
from pathlib import Path

OLDEST = (3, 10)  # the Flyte SDK's own minimum


def start() -> int:
    """Make this folder a package with a name of its own, take it off ``sys.path``, and run; return the exit status."""
    here = Path(__file__).resolve().parent
    # Python put this folder first on the path, where it would hide a `bundle.py` of the user's.
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != here]
    spec = importlib.util.spec_from_file_location(
        "flyted_loader", str(here / "__init__.py"), submodule_search_locations=[str(here)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(str(here))
    package = importlib.util.module_from_spec(spec)
    sys.modules["flyted_loader"] = package
    spec.loader.exec_module(package)
    return int(importlib.import_module("flyted_loader.run").main(sys.argv[1:]))


if __name__ == "__main__":
    if sys.version_info < OLDEST:
        sys.exit(64)  # flytectl prints the error (load.py)
    try:
        sys.exit(start())
    except KeyboardInterrupt:
        sys.exit(130)
