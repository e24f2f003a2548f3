"""Kinds of apps that people serve, with the packages that they are written for, started as their documents do."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit import environments
from tests.machine.kit.users import alice, curl, environment, forget_apps, forget_secrets, give, serve, until

IMAGE = "flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages"
GIB = 1 << 30


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    forget_apps("kind-")
    forget_secrets("KIND_TOKEN")


def plain(name: str, args: str, packages: str, more: str = "") -> str:
    """A file with an app that is a program; the file's name."""
    text = (
        f"import flyte, flyte.app\n"
        f"env = flyte.app.AppEnvironment(name={name!r}, requires_auth=False, args={args!r},\n"
        f"    image={IMAGE}({packages}), {more})\n"
    )
    return give(f"{name.replace('-', '_')}.py", text)


def test_modules_with_templates_and_data() -> None:
    """A package beside the app's file, pages that it renders, and a table that it reads by a relative path."""
    give("kind/pages/index.html", "<h1>{{ title }}</h1>{% for row in rows %}<p>{{ row }}</p>{% endfor %}")
    give("kind/data/rows.csv", "one\ntwo\n")
    give("kind/shop/__init__.py", "")
    give(
        "kind/shop/rows.py",
        "from pathlib import Path\ndef rows():\n    return Path('data/rows.csv').read_text().split()\n",
    )
    file = give(
        "kind/main.py",
        "import flyte\nfrom fastapi import FastAPI, Request\nfrom fastapi.templating import Jinja2Templates\n"
        "from flyte.app.extras import FastAPIAppEnvironment\nfrom shop.rows import rows\n"
        "app = FastAPI()\npages = Jinja2Templates(directory='pages')\n"
        "@app.get('/')\ndef index(request: Request):\n"
        "    return pages.TemplateResponse(request, 'index.html', {'title': 'Shop', 'rows': rows()})\n"
        f"env = FastAPIAppEnvironment(name='kind-modules', app=app, requires_auth=False, include=['pages', 'data'],\n"
        f"    image={IMAGE}('fastapi', 'uvicorn', 'jinja2'))\n",
    )
    environments.install(environments.environment_for("/home/alice/kind-env"), "flyte", "fastapi", "jinja2")
    said = alice("flytectl", "serve", "--python", "kind-env", "--root-dir", "kind", file).stdout
    assert curl(said.split()[-1]) == (200, "<h1>Shop</h1><p>one</p><p>two</p>")


def test_gunicorn_with_workers() -> None:
    """Its workers share the port; both answer, also after a wake."""
    give(
        "kind_wsgi.py",
        "import os\ndef app(environ, start):\n    start('200 OK', [])\n    return [str(os.getpid()).encode()]\n",
    )
    url = serve(plain("kind-gunicorn", "gunicorn --workers 2 --bind 0.0.0.0:8080 kind_wsgi:app", "'gunicorn'",
                      "include=['kind_wsgi.py']"))  # fmt: skip
    for _ in range(2):
        found: set[tuple[int, str]] = set()
        until(lambda: found.add(curl(url)) or len(found) == 2)  # type: ignore[func-returns-value]  # noqa: B023
        assert {status for status, _ in found} == {200}
        alice("flytectl", "app", "sleep", "kind-gunicorn")


MCP = f"""
import flyte, flyte.app
env = flyte.app.AppEnvironment(name="kind-mcp", requires_auth=False, image={IMAGE}("mcp<2"))

@env.server
async def serve():
    from mcp.server.fastmcp import FastMCP
    server = FastMCP("demo", host="0.0.0.0", port=8080)

    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    await server.run_streamable_http_async()
"""


@pytest.mark.long
def test_mcp_over_streamable_http() -> None:
    """A session: it is opened, a tool is called in it, and the answer is a stream of events."""
    url = serve(give("kind_mcp.py", MCP)) + "/mcp"
    accept = ("-H", "Accept: application/json, text/event-stream", "-H", "Content-Type: application/json")

    def call(method: str, number: int | None, params: object, *more: str) -> tuple[int, str]:
        message = {"jsonrpc": "2.0", "method": method, "params": params} | ({"id": number} if number else {})
        return curl(url, *accept, *more, "-d", json.dumps(message))

    hello = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    status, text = call("initialize", 1, hello, "-i")
    assert status == 200
    (session,) = re.findall(r"(?i)mcp-session-id: (\S+)", text)
    here = ("-H", f"Mcp-Session-Id: {session}")
    assert call("notifications/initialized", None, {}, *here)[0] == 202
    status, text = call("tools/call", 2, {"name": "add", "arguments": {"a": 2, "b": 3}}, *here)
    assert status == 200
    (event,) = re.findall(r"data: (\{.*\})", text)
    assert json.loads(event)["result"]["content"][0]["text"] == "5"


GRADIO = f"""
import flyte, flyte.app
env = flyte.app.AppEnvironment(name="kind-gradio", requires_auth=False, image={IMAGE}("gradio"),
                               resources=flyte.Resources(cpu=2, memory="1Gi"))

@env.server
def serve():
    import gradio
    page = gradio.Interface(lambda name: f"Hello, {{name}}!", "text", "text", api_name="greet")
    page.launch(server_name="0.0.0.0", server_port=8080)
"""


@pytest.mark.long
def test_gradio() -> None:
    """Its page, a call of its API, and the stream with the result."""
    url = serve(give("kind_gradio.py", GRADIO), "--start-timeout", "10m")
    status, page = curl(url)
    assert status == 200
    assert "gradio" in page
    status, text = curl(
        f"{url}/gradio_api/call/greet", "-H", "Content-Type: application/json", "-d", '{"data": ["you"]}'
    )
    assert status == 200, text
    status, text = curl(f"{url}/gradio_api/call/greet/{json.loads(text)['event_id']}")
    assert (status, "Hello, you!" in text) == (200, True)


NOTEBOOK = """
import marimo
app = marimo.App()

@app.cell
def _():
    6 * 7
    return
"""


@pytest.mark.long
def test_marimo_with_a_token() -> None:
    """The token is a secret among the arguments of a Python program; without it there is only a login."""
    give("kind_notebook.py", NOTEBOOK)
    alice("flytectl", "secret", "create", "KIND_TOKEN", "-", typed="canary-of-marimo")
    args = "marimo edit --headless --host 0.0.0.0 --port 8080 --token-password=$KIND_TOKEN kind_notebook.py"
    more = "include=['kind_notebook.py'], secrets='KIND_TOKEN', resources=flyte.Resources(cpu=2, memory='1Gi')"
    url = serve(plain("kind-marimo", args, "'marimo'", more))
    status, text = curl(url)
    assert status in (303, 401)
    assert "marimo-config" not in text
    status, text = curl(
        f"{url}/?access_token=canary-of-marimo", "-L", "-c", "/tmp/kind-cookies", "-b", "/tmp/kind-cookies"
    )
    assert status == 200
    assert "marimo" in text
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "canary-of-marimo" not in listed


LARGE = f"""
import flyte
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from flyte.app.extras import FastAPIAppEnvironment
app = FastAPI()

@app.post("/up")
async def up(request: Request):
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return size

@app.get("/down")
def down(size: int):
    async def chunks():
        for _ in range(size >> 20):
            yield bytes(1 << 20)
    return StreamingResponse(chunks())

env = FastAPIAppEnvironment(name="kind-large", app=app, requires_auth=False, image={IMAGE}("fastapi", "uvicorn"),
                            resources=flyte.Resources(cpu=2, memory="256Mi"))
"""


@pytest.mark.long
def test_two_gib_up_and_down_with_flat_memory() -> None:
    """Neither the ingress nor the app holds what passes: the app has 256 MiB."""
    url = serve(give("kind_large.py", LARGE))
    before = resident()
    size = 2 * GIB
    command = f"head -c {size} /dev/zero | curl -sS -X POST -T - -H 'Expect:' {url}/up"
    assert sent(command) == str(size)
    assert sent(f"curl -sS '{url}/down?size={size}' | wc -c") == str(size)
    assert resident() < before + (64 << 10)


def sent(command: str) -> str:
    done = subprocess.run(
        ["runuser", "-u", "alice", "--", "bash", "-c", command], capture_output=True, text=True, check=True,
        env=environment("alice"), timeout=540,
    )  # fmt: skip
    return done.stdout.strip()


def resident() -> int:
    """The most memory that a process of the ingress has had, in KiB."""
    pids = subprocess.run(["pidof", "haproxy"], capture_output=True, text=True, check=True).stdout.split()
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return max(int(re.findall(r"VmHWM:\s+(\d+)", text)[0]) for text in texts)
