"""An app that does what it is sent, to look at what it sees and to write what it keeps."""

from __future__ import annotations

import json

from tests.machine.kit.users import curl

SOURCE = """
import os, sqlite3
from fastapi import FastAPI
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.post("/do")
def do(code: dict):
    found = {{}}
    exec(code["code"], {{"os": os, "sqlite3": sqlite3}}, found)
    return found

env = FastAPIAppEnvironment(
    name="{app}", app=app, requires_auth=False, resources=flyte.Resources(memory="512Mi"{disk}),
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn"),
)
"""


def do(url: str, code: str) -> dict[str, object]:
    """What the code leaves in its variables."""
    status, body = curl(f"{url}/do", "-H", "Content-Type: application/json", "-d", json.dumps({"code": code}))
    assert status == 200, body
    return dict(json.loads(body))
