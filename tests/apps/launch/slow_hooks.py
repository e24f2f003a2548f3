"""Start and stop functions that take their time, plain and async."""

import asyncio
import os
import time

import flyte.app

kind = os.environ["KIND"]
env = flyte.app.AppEnvironment(name="slow-hooks", requires_auth=False)

if kind == "starts-async":

    @env.on_startup
    async def begin():
        print("starting", flush=True)
        await asyncio.sleep(600)

elif kind == "starts":

    @env.on_startup
    def begin():
        print("starting", flush=True)
        time.sleep(600)

elif kind == "ends-async":

    @env.on_shutdown
    async def end():
        print("ending", flush=True)
        await asyncio.sleep(2)
        print("ended", flush=True)

else:

    @env.on_shutdown
    def end():
        print("ending", flush=True)
        time.sleep(2)
        print("ended", flush=True)


@env.server
async def serve():
    import uvicorn

    async def asgi(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})

    await uvicorn.Server(uvicorn.Config(asgi, lifespan="off")).serve()
