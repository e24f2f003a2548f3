"""sleeping_engine.py --port N [--bad HOW]: a program with the endpoints by which vLLM sleeps; it hangs while it does.

Its memory is no GPU's; the order of what it was asked, and what it answers meanwhile, are vLLM's.
"""

import argparse
import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DEVELOPMENT = ("/sleep", "/wake_up", "/is_sleeping", "/collective_rpc", "/server_info")


class Engine:
    """What of it sleeps: nothing, or the memory of these tags."""

    def __init__(self, bad: str) -> None:
        self.bad = bad
        self.changed = threading.Condition()
        self.asleep: set[str] = set()
        self.calls: list[str] = []

    def sleep(self, level: str) -> int:
        """POST /sleep."""
        if self.bad == "no-sleep":
            return 500
        with self.changed:
            self.asleep = {"weights", "kv_cache"} if self.bad != "sleepless" else set()
            self.calls.append(f"sleep {level}")
        return 200

    def wake_up(self, tags: set[str]) -> int:
        """POST /wake_up."""
        if self.bad == "hang":
            threading.Event().wait()
        if self.bad in ("no-wake", "deaf"):
            return 500
        time.sleep(0.1)
        with self.changed:
            self.asleep -= tags or self.asleep
            self.calls.append(f"wake {','.join(sorted(tags))}".strip())
            self.changed.notify_all()
        return 200

    def answer(self) -> None:
        """Any other request: it waits until the engine is awake."""
        with self.changed:
            self.changed.wait_for(lambda: not self.asleep)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    engine: Engine

    def do_GET(self) -> None:
        """Everything that is asked without a body."""
        path = self.path.partition("?")[0]
        if path == "/is_sleeping" and development():
            self.reply(200, {"is_sleeping": bool(self.engine.asleep)})
        elif path == "/health":
            self.reply(200, {})
        elif path in DEVELOPMENT:
            self.reply(404, {})
        else:
            self.engine.answer()
            self.reply(200, {"calls": self.engine.calls, "pid": os.getpid(), "path": self.path})

    def do_POST(self) -> None:
        """Sleep, wake, and a chat."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, query = self.path.partition("?")
        values = [word.partition("=")[2] for word in query.split("&") if word]
        if path in DEVELOPMENT and not development():
            self.reply(404, {})
        elif path == "/sleep":
            self.reply(self.engine.sleep(values[0]), {})
        elif path == "/wake_up":
            self.reply(self.engine.wake_up(set(values)), {})
        elif path == "/collective_rpc":
            self.engine.calls.append(f"rpc {json.loads(body)['method']} while {sorted(self.engine.asleep)}")
            self.reply(200, {})
        else:
            self.do_GET()

    def reply(self, status: int, body: dict[str, Any]) -> None:
        """The answer."""
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: object) -> None:
        """Says nothing."""


def development() -> bool:
    """Whether its endpoints for that are there."""
    return os.environ.get("VLLM_SERVER_DEV_MODE") == "1"


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bad", default="")
    options, _others = parser.parse_known_args()
    if options.bad == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Handler.engine = Engine(options.bad)
    ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
