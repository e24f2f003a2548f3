"""The simplest possible app: a program that opens a port, here with nothing but Python's own library.

Any program will do, in any language. It has a network of its own, so every app may use port 8080.
"""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import flyte
import flyte.app

PORT = 8080

env = flyte.app.AppEnvironment(
    name="python-server",
    image=flyte.Image.from_debian_base(python_version=(3, 12)),
    args=["python", "python_server.py"],
    port=PORT,
    resources=flyte.Resources(cpu=1, memory="256Mi"),
    requires_auth=False,
    include=["python_server.py"],
)


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"hello from {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", PORT), Hello).serve_forever()
