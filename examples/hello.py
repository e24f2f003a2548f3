"""The smallest useful app: `flytectl serve hello.py`, then `curl https://hello.apps.localhost/?name=you`."""

import flyte
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI(title="Hello")


@app.get("/")
async def hello(name: str = "world") -> dict[str, str]:
    return {"message": f"Hello, {name}!"}


env = FastAPIAppEnvironment(
    name="hello",
    app=app,
    image=flyte.Image.from_debian_base(python_version=(3, 12)).with_pip_packages("fastapi", "uvicorn"),
    requires_auth=False,  # whoever reaches this machine's ports may say hello
)
