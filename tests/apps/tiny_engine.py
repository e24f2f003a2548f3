"""An engine without a model: each address answers with what its image has. It runs in images, where none of ours is."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROGRAMS = ("nvcc", "cargo", "rustc", "g++")
PACKAGES = ("vllm", "flashinfer-jit-cache", "flyteplugins-vllm", "sglang", "sglang-router", "flyteplugins-sglang")


def look() -> dict[str, Any]:
    """What there is of programs, with the first words that each says of its version; packages; and the GPU."""
    said = {
        name: subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout.split()[:2]
        for name in PROGRAMS
        if shutil.which(name)
    }
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    variables = {name: os.environ.get(name) for name in ("CUDA_HOME", "CUDA_VISIBLE_DEVICES")}
    return {"programs": {name: " ".join(words) for name, words in said.items()}, "packages": found, **variables}


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(look()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main(words: list[str] | None = None) -> None:
    """Serve until the end, at the port among the engine's arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    given, _ = parser.parse_known_args(words)
    ThreadingHTTPServer(("0.0.0.0", given.port), _Answers).serve_forever()  # noqa: S104  as the engine's own
