"""Apps that call apps: three in a chain, and what one gets that calls another."""

from __future__ import annotations

import ast
import subprocess

from tests.machine.kit.apps import state
from tests.machine.kit.programs import do, unit
from tests.machine.kit.users import until

CHAIN = """
import json
import os
import urllib.request

import flyte
import flyte.app
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from flyte.app.extras import FastAPIAppEnvironment

IMAGE = flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn", "websockets")

def made(name, app, **more):
    return FastAPIAppEnvironment(name=name, app=app, image=IMAGE, requires_auth=name.endswith("llm"), **more)

def get(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.loads(answer.read())

def about(request):
    return {"app": request.headers.get("x-flyte-app"), "user": request.headers.get("x-flyte-user")}

vectors = FastAPI()
@vectors.get("/embed")
def embed(request: Request):
    return [{"name": "embeddings", **about(request)}]
embeddings = made("PREFIX-embeddings", vectors)

model = FastAPI()
@model.get("/chat")
def complete(request: Request):
    return [{"name": "llm", "version": VERSION, **about(request)}, *get(f"{embeddings.endpoint}/embed")]
@model.get("/words")
async def words():
    async def some():
        for word in ("data: one\\n\\n", "data: two\\n\\n"):
            yield word
    return StreamingResponse(some(), media_type="text/event-stream")
@model.websocket("/ws")
async def talk(socket: WebSocket):
    await socket.accept()
    await socket.send_text("llm:" + await socket.receive_text())
llm = made("PREFIX-llm", model, depends_on=[embeddings])

front = FastAPI()
@front.get("/")
def asked(request: Request):
    return [{"name": "chat", **about(request)}, *get(f"{os.environ['LLM']}/chat")]
@front.get("/words")
def streamed():
    return StreamingResponse(urllib.request.urlopen(f"{os.environ['LLM']}/words"), media_type="text/event-stream")
@front.get("/ws")
def told():
    from websockets.sync.client import connect
    with connect(os.environ["LLM"].replace("http", "ws") + "/ws") as socket:
        socket.send("hello")
        return socket.recv()
@front.get("/many")
def many(n: int):
    found = {}
    for _ in range(n):
        version = get(f"{os.environ['LLM']}/chat")[0]["version"]
        found[version] = found.get(version, 0) + 1
    return found
@front.get("/others")
def others():
    try:
        return embeddings.endpoint
    except Exception as error:
        return str(error)
chat = made(
    "PREFIX-chat", front,
    parameters=[flyte.app.Parameter(name="llm", value=flyte.app.AppEndpoint(app_name=llm.name), env_var="LLM")],
)
"""
CALL = """
import urllib.error, urllib.request
def call(url, headers={{}}, data=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)
    except urllib.error.URLError as error:
        return 0, str(error.reason), {{}}
result = call({url!r}, **{more!r})[:2]
"""
CALLS = "198.18.255.1"
LLM = "http://calls-llm.apps.internal/"


def chain(prefix: str, version: str = "1") -> str:
    """The text of the file with the three apps, whose names begin with ``prefix``."""
    return CHAIN.replace("PREFIX", prefix).replace("VERSION", repr(version), 1)


def call(url: str, target: str, **more: object) -> tuple[int, str]:
    """What an app gets that calls ``target``: status and body; 0 and why, if it gets no answer."""
    return ast.literal_eval(do(url, CALL.format(url=target, more=more)))  # type: ignore[no-any-return]


def sleep(*names: str) -> None:
    """Puts apps to sleep as flyted does."""
    for name in names:
        subprocess.run(["systemctl", "stop", unit(name)], check=True)
    until(lambda: all(state(name) == "sleeping" for name in names))


def own_address(name: str) -> str:
    """The address that an app has in its network, as its unit says."""
    server = unit(name).removeprefix("flyted-app-").removesuffix(".service")
    shown = subprocess.run(
        ["systemctl", "show", "-P", "StatusText", f"flyted-net@{server}.service"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return shown.stdout.strip()
