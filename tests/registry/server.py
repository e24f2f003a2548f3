"""A registry on this machine's loopback that does as a test says: any path may be answered in another way."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import re
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from flyted.registry import url, words
from flyted.registry.client import Retries
from flyted.registry.logins import Login
from flyted.registry.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from flyted.registry.pull import Pull
from flyted.registry.reach import Reach
from flyted.registry.reference import parse
from flyted.registry.store import Store, part_name

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
NAME = "registry.test/team/app"
ALICE = Login("alice", "s3cret")
BASIC = "Basic " + base64.b64encode(b"alice:s3cret").decode()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer_of(name: str, size: int = 1000) -> bytes:
    """A layer with one file, of about that size."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        info = tarfile.TarInfo(name)
        content = hashlib.shake_128(name.encode()).digest(size)
        info.size = size
        tar.addfile(info, io.BytesIO(content))
    return gzip.compress(made.getvalue(), 1, mtime=0)


class Handler(BaseHTTPRequestHandler):
    """Answers one request, and remembers it."""

    protocol_version = "HTTP/1.1"
    server: Served

    def do_GET(self) -> None:
        registry = self.server.registry
        registry.asked.append((self.path, dict(self.headers)))
        for pattern, rule in registry.rules.items():
            if re.search(pattern, self.path) and rule(self) is not False:
                return
        kind, _, key = self.path.partition("?")[0].removeprefix(f"/v2/{registry.path}/").partition("/")
        found = {"manifests": registry.manifests, "blobs": registry.blobs}.get(kind, {}).get(key)
        if found is None:
            self.reply(404, json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}).encode())
        else:
            self.content(found)

    def do_POST(self) -> None:
        self.form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.do_GET()

    def content(self, data: bytes) -> None:
        """Answer as a registry does, with ranges."""
        span = self.headers.get("Range")
        if span is None:
            return self.reply(200, data)
        begin = int(span.removeprefix("bytes=").rstrip("-"))
        return self.reply(206, data[begin:], **{"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"})

    def reply(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        pass


class Served(ThreadingHTTPServer):
    daemon_threads = True
    registry: Registry

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that has enough goes away


@dataclass
class Registry:
    """What a registry has. ``rules``: pattern of a path → another answer; ``False`` from it: the usual one."""

    path: str = "team/app"
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    rules: dict[str, Callable[[Handler], Any]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add_blob(self, data: bytes, media: str = LAYER) -> dict[str, Any]:
        self.blobs[digest(data)] = data
        return {"mediaType": media, "digest": digest(data), "size": len(data)}

    def add_manifest(self, document: dict[str, Any], *tags: str) -> dict[str, Any]:
        data = json.dumps(document).encode()
        for name in (digest(data), *tags):
            self.manifests[name] = data
        return {"mediaType": document.get("mediaType", ""), "digest": digest(data), "size": len(data)}

    def add_image(
        self,
        *tags: str,
        layers: tuple[bytes, ...] = (),
        arch: str = "amd64",
        run: dict[str, Any] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """An image of these layers, or of two small ones. ``run``: how its program is run."""
        layers = layers or (layer_of("one"), layer_of("two"))
        config = {
            "os": "linux", "architecture": arch,
            "config": run or {"Env": ["A=1"], "Cmd": ["sh"], "Labels": {"x": "y"}},
            "rootfs": {"type": "layers", "diff_ids": [digest(gzip.decompress(each)) for each in layers]},
        }  # fmt: skip
        return self.add_manifest(
            {
                "schemaVersion": 2, "mediaType": OCI_MANIFEST,
                "config": self.add_blob(json.dumps(config).encode(), CONFIG),
                "layers": [self.add_blob(each) for each in layers], **more,
            },
            *tags,
        )  # fmt: skip

    def add_index(self, *tags: str, **images: dict[str, Any]) -> dict[str, Any]:
        """An index of images by architecture."""
        entries = [{**each, "platform": {"os": "linux", "architecture": arch}} for arch, each in images.items()]
        notes = {**entries[0], "platform": {"os": "unknown", "architecture": "unknown"}}
        return self.add_manifest({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [notes, *entries]}, *tags)

    def asked_for(self, pattern: str) -> list[dict[str, str]]:
        """The headers of the requests for a path."""
        return [headers for path, headers in self.asked if re.search(pattern, path)]

    @contextlib.contextmanager
    def serving(self, context: Any = None) -> Iterator[Registry]:
        server = Served(("127.0.0.1", 0), Handler)
        server.registry, self.port = self, server.server_address[1]
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def part(self, folder: Path, of: str) -> Path:
        """The file that a blob of this registry arrives in."""
        return folder / words.PARTS / part_name(of, f"127.0.0.1:{self.port}")

    def pull(self, folder: Path, name: str = f"{NAME}:v1", **more: Any) -> Pull:
        """A pull of it, by the setting that it is to be asked by plain HTTP, and with short waits."""
        logins = {"registry.test": Login("alice", "s3cret"), f"127.0.0.1:{self.port}": more.pop("login", Login())}
        folder.mkdir(exist_ok=True)
        return Pull(
            parse(name), "linux/amd64", Store(folder),
            Reach({"registry.test": url.parse(self.address)}, timeout_s=more.pop("timeout_s", 5)),
            logins, Retries(tries=more.pop("tries", 3), first_wait_s=0.01), **more,
        )  # fmt: skip


def drip(handler: Handler, head: bytes, drop: bytes, every_s: float = 0.1) -> None:
    """Answer with a head, and then a little now and then, for half a minute."""
    import time

    handler.wfile.write(head)
    with contextlib.suppress(OSError):
        for _ in range(300):
            handler.wfile.write(drop)
            handler.wfile.flush()
            time.sleep(every_s)


def cut(handler: Handler, data: bytes, at: int) -> None:
    """Promise all of ``data``, and break off."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[:at])
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


__all__ = ["CONFIG", "DOCKER_MANIFEST", "LAYER", "NAME", "Handler", "Registry", "cut", "digest", "drip", "layer_of"]
