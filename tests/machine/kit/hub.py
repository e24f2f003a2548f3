"""A registry of this machine: Debian's own, with TLS and a login, and what is pushed to it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import functools
import gzip
import io
import json
import os
import shutil
import ssl
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from flyted.plan.images import pull_unit as plan
from flyted.plan.images.pull_unit import PullSettings
from flyted.registry.manifest import OCI_MANIFEST
from flyted.registry.reference import Reference, parse
from tests.machine.kit.packages import install
from tests.machine.kit.settings import settings
from tests.machine.kit.units import connected, must
from tests.registry.server import BASIC, CONFIG, LAYER, digest

HOST = "127.0.0.1:5443"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
PLATFORM = plan.platform_of(os.uname().machine)
CONFIGURED = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http: {{addr: "{host}", tls: {{certificate: {folder}/tls.crt, key: {folder}/tls.key}}}}
auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}
compatibility: {{schema1: {{enabled: true}}}}
"""


@dataclasses.dataclass(frozen=True)
class Hub:
    """The registry, as one who may push to one of its repositories sees it."""

    folder: Path
    repository: str = "team/app"

    def ask(
        self, method: str, path: str, data: bytes = b"", media: str = "application/octet-stream", accept: str = "*/*"
    ) -> tuple[str, bytes]:
        """The address and the body of an answer."""
        url = path if path.startswith("https") else f"https://{HOST}/v2/{self.repository}/{path}"
        headers = {"Authorization": BASIC, "Content-Type": media, "Accept": accept}
        context = ssl.create_default_context(cafile=str(self.folder / "tls.crt"))
        request = urllib.request.Request(url, data if method != "GET" else None, headers, method=method)
        with urllib.request.urlopen(request, timeout=30, context=context) as reply:
            return reply.headers.get("Location", ""), reply.read()

    def blob(self, data: bytes, media: str) -> dict[str, Any]:
        place, _ = self.ask("POST", "blobs/uploads/")
        self.ask("PUT", f"{place}&digest={digest(data)}", data)
        return {"mediaType": media, "digest": digest(data), "size": len(data)}

    def manifest(self, document: dict[str, Any], tag: str) -> dict[str, Any]:
        data, media = json.dumps(document).encode(), document["mediaType"]
        self.ask("PUT", f"manifests/{tag}", data, media)
        return {"mediaType": media, "digest": digest(data), "size": len(data)}

    def image(
        self,
        tag: str,
        layers: list[tuple[bytes, str]],
        arch: str,
        media: str = OCI_MANIFEST,
        run: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Push an image. ``run``: how its program is run, as the config of an image says it."""
        run = {"Cmd": ["/bin/sh"], "Env": ["A=b"]} if run is None else run
        config = {
            "os": "linux", "architecture": arch, "config": run,
            "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar, _ in layers]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "test"} for _ in layers],
        }  # fmt: skip
        packed = [(_packed(tar, kind), kind) for tar, kind in layers]
        return self.manifest(
            {
                "schemaVersion": 2, "mediaType": media,
                "config": self.blob(json.dumps(config).encode(), CONFIG if media == OCI_MANIFEST else DOCKER_CONFIG),
                "layers": [self.blob(data, kind if media == OCI_MANIFEST else DOCKER_LAYER) for data, kind in packed],
            },
            tag,
        )  # fmt: skip


@functools.cache
def _packed(tar: bytes, kind: str) -> bytes:
    return gzip.compress(tar, 1) if kind == LAYER else zstandard.compress(tar)


def tar_of(*entries: tuple[str, Any]) -> bytes:
    """An archive: name|owner → bytes of a file, a link's target (``Path``: a hard link's), ``None``: a folder."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name.partition("|")[0])
            info.uid = info.gid = int(name.partition("|")[2] or 0)
            info.mode = 0o755
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, (str, Path)):
                info.type = tarfile.SYMTYPE if isinstance(content, str) else tarfile.LNKTYPE
                info.linkname = str(content)
            info.size = len(content) if isinstance(content, bytes) else 0
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return made.getvalue()


def page(text: str) -> bytes:
    """An image without a C library: one program, and a page that only its user may read."""
    return tar_of(
        ("bin", None), ("bin/busybox", Path("/usr/bin/busybox").read_bytes()), ("bin/httpd", "busybox"),
        ("bin/sh", "busybox"), ("bin/cat", "busybox"), ("etc", None),
        ("etc/passwd", b"root:x:0:0::/:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n"),
        ("www", None), ("www/index.html", text.encode()), ("own|1000", None), ("own/seed|1000", b"seed"),
    )  # fmt: skip


def layers() -> list[tuple[bytes, str]]:
    """A busybox, and above it what takes files and a folder away, and adds some."""
    busybox = Path("/usr/bin/busybox").read_bytes()
    below = tar_of(
        ("usr", None), ("usr/bin", None), ("bin", "usr/bin"), ("usr/bin/busybox", busybox), ("usr/bin/sh", "busybox"),
        ("etc", None), ("etc/old", b"old"), ("etc/keep", b"keep"), ("data", None), ("data/a", b"a"), ("data/b", b"b"),
        ("www|33", None), ("www/page|33", b"hello"), ("far|4000000", b"far"),
    )  # fmt: skip
    above = tar_of(
        ("etc/.wh.old", b""), ("data/.wh..wh..opq", b""), ("data/new", b"new"),
        ("bin/tool", b"#!/bin/sh\necho tool\n"), ("hard", Path("bin/tool")), ("below", Path("etc/keep")),
    )  # fmt: skip
    return [(below, LAYER), (above, ZSTD)]


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """A registry of this machine. Its package would start one by itself, on a port that others may need."""
    must("systemctl", "mask", "docker-registry.service")
    install("docker-registry")
    folder = Path("/srv/flyted-test-hub")  # the unit sees no /tmp
    must("rm", "-rf", str(folder))
    folder.mkdir()
    must("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", f"{folder}/tls.key", "-out", f"{folder}/tls.crt", "-subj", "/CN=hub",
         "-addext", "subjectAltName=IP:127.0.0.1")  # fmt: skip
    crypt = ["perl", "-e", 'print crypt("s3cret", q($2y$05$) . "a" x 22)']
    hashed = subprocess.run(crypt, check=True, capture_output=True, text=True).stdout
    (folder / "htpasswd").write_text(f"alice:{hashed}\n")
    (folder / "config.yml").write_text(CONFIGURED.format(folder=folder, host=HOST))
    made = Hub(folder)
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log) as served,
    ):
        try:
            wait_for(made)
            yield made
        finally:
            served.terminate()
    must("rm", "-rf", str(folder))
    must("systemctl", "unmask", "docker-registry.service")


@contextlib.contextmanager
def trusted(hub: Hub, mirrored: str = HOST, secret: str = "hub-login", more: str = "") -> Iterator[None]:
    """Have the machine trust the registry's certificate, and its address asked although it is the machine's own.

    ``mirrored``: the registry in whose place that is. ``secret``: the one with the logins; "": none. ``more``: further
    mirrors, in lines.
    """
    place = Path("/usr/local/share/ca-certificates/flyted-test-hub.crt")
    shutil.copyfile(hub.folder / "tls.crt", place)
    must("update-ca-certificates")
    try:
        with settings(
            f'[images]\nregistry_secret = "{secret}"\n[images.mirrors]\n"{mirrored}" = "https://{HOST}"\n{more}'
        ):
            yield
    finally:
        place.unlink()
        must("update-ca-certificates", "--fresh")


def login(password: str = "s3cret") -> str:
    """What `docker login` writes."""
    auth = base64.b64encode(f"alice:{password}".encode()).decode()
    return json.dumps({"auths": {HOST: {"auth": auth}}})


def named(tag: str) -> Reference:
    return parse(f"{HOST}/team/app{'@' if tag.startswith('sha256:') else ':'}{tag}")


def pulled(hub: Hub, tag: str, *, password: str = "s3cret", login: bool = True, **how: Any) -> tuple[str, list[str]]:
    """The digest and the output of a pull by the plan's unit. Raises what the plan says of a failure."""
    reference = named(tag)
    auth = hub.folder / f"{os.getpid()}.json"
    auth.write_text(json.dumps({"auths": {HOST: {"username": "alice", "password": password}}}))
    auth.chmod(0o600)

    async def work() -> tuple[Any, list[str]]:
        with (hub.folder / f"{os.getpid()}.output").open("w+") as output:
            settings = PullSettings(
                mirrors={HOST: f"https://{HOST}"}, environment={"SSL_CERT_FILE": str(hub.folder / "tls.crt")},
                output_fd=output.fileno(), credentials=str(auth),
            )  # fmt: skip
            unit = plan.pull_unit(reference, PLATFORM, settings, login=login, **how)
            async with connected() as units:
                end = await units.run_transient(plan.unit_name(reference, PLATFORM), unit)
            output.seek(0)
            return end, output.read().splitlines()

    end, lines = asyncio.run(asyncio.wait_for(work(), 120))
    if end.result != "success":
        raise plan.pull_failure(reference, end.result, end.status, lines)
    return plan.resolved(lines), lines


def wait_for(hub: Hub) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError):  # of urllib, too
            hub.ask("GET", f"https://{HOST}/v2/")
            return
        time.sleep(0.2)
    raise AssertionError((hub.folder / "log").read_text())
