"""Start, server and stop functions that say in which order, and with what, they are called."""

import asyncio
import os
import sys

import flyte.app

kind = os.environ.get("KIND", "async")
env = flyte.app.AppEnvironment(name="hooks", requires_auth=False)


@env.on_startup
async def begin(greeting):
    print("on_startup", greeting, os.environ.get("GREETING"))


@env.on_shutdown
def end(**everything):
    print("on_shutdown", sorted(everything.items()))


def plain_asgi(words):
    async def asgi(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan here")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": words.encode()})

    return asgi


if kind == "async":

    @env.server
    async def serve(greeting, unknown="default"):
        import uvicorn

        await uvicorn.Server(uvicorn.Config(plain_asgi(f"{greeting} {unknown}"))).serve()

elif kind == "sync":

    @env.server
    def serve(greeting):
        import uvicorn

        uvicorn.run(plain_asgi(greeting), host="127.0.0.1", port=1)

elif kind == "returns":

    @env.server
    async def serve():
        print("server returned")

elif kind == "raises":

    @env.server
    def serve():
        raise ValueError("the app's own failure")

elif kind == "sleeps":

    @env.server
    def serve():
        print("sleeping")
        sys.stdout.flush()
        import time

        time.sleep(600)

elif kind == "waits":

    @env.server
    async def serve():
        print("waiting")
        await asyncio.sleep(600)
