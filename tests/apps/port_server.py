"""A program that opens a port, with Python's own library alone: well-mannered or not, as its arguments say.

port_server.py [--host H] [--port P] [--late S] [--version V] [--fork] [--stubborn] [--exit N] [--key K]
"""

import argparse
import base64
import hashlib
import os
import signal
import socket
import socketserver
import sys
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=8080)
parser.add_argument("--late", type=float, default=0)
parser.add_argument("--version", default="1")
parser.add_argument("--key", default="")
parser.add_argument("--exit", type=int)
parser.add_argument("--fork", action="store_true")
parser.add_argument("--stubborn", action="store_true")
options = parser.parse_args()


class Portly(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path == "/ws":
            return self.websocket()
        if url.path == "/stream":
            return self.stream(int(query["n"]))
        if url.path == "/slow":
            time.sleep(float(query["s"]))
        if url.path == "/do":  # the body is Python: what an app may do, attackers in it may
            source = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            return self.answer(done(source))
        if url.path == "/env":
            return self.answer(" ".join(os.environ))
        if url.path == "/key":
            return self.answer(options.key)
        return self.answer(f"{os.getpid()} {options.version} {self.path}")

    do_POST = do_GET

    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, count):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(count):
            self.wfile.write(f"data: {number}\n\n".encode())
            time.sleep(0.2)
        self.close_connection = True

    def websocket(self):
        magic = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        while len(head := self.rfile.read(2)) == 2 and head[0] == 0x81:
            mask, size = self.rfile.read(4), head[1] & 127
            text = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(size)))
            self.wfile.write(bytes([0x81, len(text) + 5]) + b"echo:" + text)

    def log_message(self, *_args):
        pass


def done(source):
    try:
        names = {}
        exec(source, names)
        return repr(names.get("result"))
    except Exception as error:
        return repr(error)


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    request_queue_size = 1024
    daemon_threads = True

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)


if options.exit is not None:
    print("last words", flush=True)
    sys.exit(options.exit)
if options.stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if options.fork:
    if os.fork():
        sys.exit(0)
    time.sleep(1)
time.sleep(options.late)
Server((options.host, options.port), Portly).serve_forever()
