"""Commands of engines, and the shapes that they get."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

from flyted.contract.app import SecretUse
from flyted.plan.engines.shape import Shape, shape_of
from tests.values import spec

GIB = 1 << 30
FSERVE = ("fserve", "--resolver", "r", "--resolver-args", "m:v", "--")
AUTH = (SecretUse("AUTH_SECRET", env="AUTH_SECRET"),)
KEY = ("--api-key", "$AUTH_SECRET")
# what the plug-ins 2.12.1 make of the document's two scripts
VLLM_ARGS = ("vllm-fserve", "serve", "Qwen/Qwen3-0.6B", "--served-model-name", "qwen3-0.6b", "--port", "8080", *KEY)
SGLANG_ARGS = (
    "sglang-fserve", "--model-path", "Qwen/Qwen3-0.6B", "--served-model-name", "qwen3-0.6b", "--host", "0.0.0.0",
    "--enable-metrics", "--port", "8080", *KEY,
)  # fmt: skip
LLAMA_ARGS = ("llama-cpp-fserve", "--model-dir", "/m", "--alias", "tiny", "--host", "0.0.0.0", "--port", "8080")
VLLM_CPU = ("vllm", "serve", "m", "--host", "127.0.0.1")
SGLANG_CPU = ("sglang-fserve", "--model-path", "m")
LLAMA_CPU = ("llama-server", "-m", "m.gguf")
MODELS = (("Qwen/Qwen3-0.6B", "/srv/qwen"), ("ggml-org/tiny-GGUF:Q4", "/srv/gguf"))


def shape(*command: str, **changes: Any) -> Shape:
    """The shape of an app with this command, which has a GPU."""
    found = shape_of(spec(command=command, port=8080, **{"gpu_count": 1, **changes}), "/var/cache/a")
    assert found is not None
    return found


def cpu_shape(*command: str, machine: int = 24 * GIB, **changes: Any) -> Shape:
    """The shape of an app with 16 GiB on a machine of 24."""
    found = shape_of(spec(command=command, port=8080, **{"memory_bytes": 16 * GIB, **changes}), "/c", machine)
    assert found is not None
    return found


def added(*command: str, **changes: Any) -> tuple[str, ...]:
    """The words that were put behind the command of an app without a GPU."""
    found = cpu_shape(*command, **changes).command
    assert found[: len(command)] == command
    return found[len(command) :]


def with_parameters(*command: str, **values: str) -> tuple[str, ...]:
    """A plug-in's command with the parameters that it makes of model_path= (flyte/app/_parameter.py)."""
    items = [{"name": name, "value": value, "download": False, "type": "string"} for name, value in values.items()]
    text = base64.b64encode(gzip.compress(json.dumps({"parameters": items}).encode())).decode()
    return ("fserve", "--parameters", text, *FSERVE[1:], *command)
