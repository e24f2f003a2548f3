"""An app that tells what it sees: served by a bare ASGI function, so that it starts fast."""

import gc
import json
import os
import subprocess
import sys

import flyte.app

env = flyte.app.AppEnvironment(name="probe", requires_auth=False)
IMPORTED = sorted(sys.modules)
print("probe imported")


def facts():
    def read(path):
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")

    return {
        "environ": dict(os.environ),
        "cmdline": read("/proc/self/cmdline"),
        "kernel_environ": read("/proc/self/environ"),
        "argv": sys.argv,
        "cwd": os.getcwd(),
        "path": sys.path,
        "imported": IMPORTED,
        "gc": gc.get_threshold()[0],
        "gc_default": int(subprocess.check_output([sys.executable, "-c", "import gc; print(gc.get_threshold()[0])"])),
        "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
    }


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = json.dumps(facts() | {"scheme": scope["scheme"], "client": scope["client"]}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


@env.server
async def serve():
    import uvicorn

    await uvicorn.Server(uvicorn.Config(asgi, host="0.0.0.0", port=1, backlog=7)).serve()
