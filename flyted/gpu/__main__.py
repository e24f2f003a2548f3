"""Reports the GPUs to flyted: ``/usr/bin/python3 -IS …/flyted/gpu``, in a unit without rights.

NVIDIA's library (NVML) runs in this process only, and CDI specs are read in it only, so that the root daemon keeps its
sandbox. This file only makes the
modules beside it and the vendored nvidia-ml-py importable.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    _here = Path(__file__).resolve().parent
    _lib = _here.parents[1]
    sys.path[:] = [str(_lib), str(_lib / "nvml"), *(entry for entry in sys.path if Path(entry).resolve() != _here)]
    sys.path.append("/usr/lib/python3/dist-packages")  # yaml, if it is there; -S has left it out
    from flyted.gpu.serve import main

    sys.exit(main())
