"""A bare ASGI app: 20 ms of work per request; every tenth request blocks the loop for a while."""

import asyncio
import time

handled = 0


async def app(scope, receive, send):
    global handled
    if scope["type"] != "http":
        raise RuntimeError("http only")
    handled += 1
    if handled % 10 == 0:
        time.sleep(0.03)
    await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
