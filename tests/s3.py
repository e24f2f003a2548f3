"""A storage that speaks what the SDK's client asks of S3: objects of one bucket, and lists of them. No signatures."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

TIME = "Wed, 02 Dec 2026 09:00:00 GMT"


class Storage(ThreadingHTTPServer):
    """``objects``: their content by bucket/key. ``asked``: the method and path of each request."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, _Handler)
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.closed = False
        """Whether nobody may read anything."""

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def variables(self) -> dict[str, str]:
        """What an app sets to use it (flyte/storage/_config.py)."""
        return {
            "FLYTE_AWS_ENDPOINT": self.url, "FLYTE_AWS_ACCESS_KEY_ID": "key", "FLYTE_AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1", "NO_PROXY": "*", "no_proxy": "*",
        }  # fmt: skip

    def fetched(self) -> list[str]:
        return [path for method, path in self.asked if method == "GET" and "list-type" not in path]


class _Handler(BaseHTTPRequestHandler):
    server: Storage
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._asked()
        path, _, query = self.path.partition("?")
        words = dict(urllib.parse.parse_qsl(query))
        if "list-type" in words:
            return self._list(urllib.parse.unquote(path).strip("/"), words.get("prefix", ""))
        return self._object(with_body=True)

    def do_HEAD(self) -> None:
        self._asked()
        self._object(with_body=False)

    def do_PUT(self) -> None:
        self._asked()
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.objects[self._key()] = data
        self._answer(200, b"", {"ETag": _tag(data)})

    def _asked(self) -> None:
        self.server.asked.append((self.command, self.path))

    def _key(self) -> str:
        return urllib.parse.unquote(self.path.partition("?")[0]).strip("/")

    def _object(self, *, with_body: bool) -> None:
        data = self.server.objects.get(self._key())
        if self.server.closed:
            return self._answer(403, b"<Error><Code>AccessDenied</Code></Error>" if with_body else b"", {})
        if data is None:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>" if with_body else b"", {})
        status, head = 200, {"ETag": _tag(data), "Last-Modified": TIME}
        if with_body and (asked := self.headers.get("range", "")).startswith("bytes="):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(int(last or len(data) - 1), len(data) - 1)
            status, head["Content-Range"] = 206, f"bytes {first}-{end}/{len(data)}"
            data = data[int(first) : end + 1]
        return self._answer(status, data, head, with_body=with_body)

    def _list(self, bucket: str, prefix: str) -> None:
        keys = sorted(name.removeprefix(f"{bucket}/") for name in self.server.objects)
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.server.objects[f'{bucket}/{key}'])}</Size>"
            f"<LastModified>2026-12-02T09:00:00.000Z</LastModified>"
            f"<ETag>{escape(_tag(self.server.objects[f'{bucket}/{key}']))}</ETag></Contents>"
            for key in keys
            if key.startswith(prefix)
        )
        text = f"<ListBucketResult><Name>{bucket}</Name><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        self._answer(200, text.encode(), {"Content-Type": "application/xml"})

    def _answer(self, status: int, body: bytes, head: dict[str, str], *, with_body: bool = True) -> None:
        self.send_response(status)
        for name, value in {**head, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def _tag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


@contextlib.contextmanager
def storage(host: str = "127.0.0.1", port: int = 0) -> Iterator[Storage]:
    """Serve an empty storage while the block runs."""
    with Storage((host, port)) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
