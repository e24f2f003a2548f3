"""A registry of this machine that wants tokens, and the service that issues them, each valid for a short time.

Source: the distribution project's specification of token authentication, and of its JSON Web Tokens.
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.machine.kit.hub import Hub
from tests.machine.kit.users import until
from tests.registry.server import BASIC

HOST, SERVICE = "127.0.0.1:5445", "127.0.0.1:5444"
LEEWAY_S = 60
"""For how long the registry takes a token beyond its end (registry/auth/token/token.go)."""
LIFE_S = 2
CONFIGURED = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http: {{addr: "{host}", tls: {{certificate: {folder}/tls.crt, key: {folder}/tls.key}}}}
auth: {{token: {{realm: "https://{service}/token", service: hub, issuer: test, rootcertbundle: {folder}/tls.crt}}}}
"""


@dataclass
class Registry:
    """The registry that wants tokens: its process, its log, and what was issued for it."""

    process: subprocess.Popen[bytes]
    log: Path
    issued: list[str] = field(default_factory=list)

    def answers(self) -> list[str]:
        """The status of each answer to a request for a blob, in order."""
        lines = [line for line in self.log.read_text().splitlines() if '"GET /v2/team/app/blobs/' in line]
        return [line.split('" ', 1)[1].split()[0] for line in lines]


def token(hub: Hub, access: list[dict[str, object]]) -> str:
    """A token that ends :data:`LIFE_S` from now, as the registry counts it."""
    now = int(time.time())
    chain = ssl.PEM_cert_to_DER_cert((hub.folder / "tls.crt").read_text())
    header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(chain).decode()]}
    claims = {
        "iss": "test", "sub": "alice", "aud": "hub", "exp": now - LEEWAY_S + LIFE_S, "nbf": now - 600,
        "iat": now - 600, "jti": str(time.time_ns()), "access": access,
    }  # fmt: skip
    text = ".".join(_packed(json.dumps(each).encode()) for each in (header, claims))
    key = serialization.load_pem_private_key((hub.folder / "tls.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signature = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{_packed(b''.join(each.to_bytes(32, 'big') for each in signature))}"


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Registry]:
    """The registry of ``hub`` once more, at another port, by tokens alone; a login gets them."""
    config = hub.folder / "tokens.yml"
    config.write_text(CONFIGURED.format(folder=hub.folder, host=HOST, service=SERVICE))
    log = hub.folder / "tokens.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(["docker-registry", "serve", str(config)], stdout=output, stderr=output) as process,
    ):
        made = Registry(process, log)
        with _issuing(hub, made):
            try:
                until(lambda: _asked(hub) == 401)
                yield made
            finally:
                process.terminate()


def _asked(hub: Hub) -> int:
    context = ssl.create_default_context(cafile=str(hub.folder / "tls.crt"))
    try:
        with urllib.request.urlopen(f"https://{HOST}/v2/", timeout=5, context=context) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@contextlib.contextmanager
def _issuing(hub: Hub, registry: Registry) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            scope = parse_qs(urlsplit(self.path).query).get("scope", [""])[0].split(":")
            if self.headers.get("Authorization") != BASIC or len(scope) != 3:
                self.send_error(401)
                return
            registry.issued.append(token(hub, [{"type": scope[0], "name": scope[1], "actions": scope[2].split(",")}]))
            body = json.dumps({"token": registry.issued[-1], "expires_in": LIFE_S}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            pass

    host, _, port = SERVICE.partition(":")
    with ThreadingHTTPServer((host, int(port)), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(hub.folder / "tls.crt", hub.folder / "tls.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
