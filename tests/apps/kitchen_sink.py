"""Every field that the Flyte SDK 2.12.1 knows, spread over environments that each can be translated."""

from datetime import timedelta
from pathlib import Path

import flyte
import flyte.app
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

HERE = Path(__file__).parent

scaled_by_pair = flyte.app.AppEnvironment(
    name="scaled-by-pair",
    description="Concurrency, seconds",
    type="worker",
    args=["python", "-m", "http.server", "8080"],
    scaling=flyte.app.Scaling(replicas=(1, 3), metric=flyte.app.Scaling.Concurrency(10), scaledown_after=120),
    resources=flyte.Resources(cpu=("500m", 2), memory=("256Mi", "1Gi"), disk="10Gi", shm="auto"),
)

scaled_by_number = flyte.app.AppEnvironment(
    name="scaled-by-number",
    args="python -m http.server '80 80'",
    scaling=flyte.app.Scaling(
        replicas=2, metric=flyte.app.Scaling.RequestRate(5), scaledown_after=timedelta(minutes=5)
    ),
    resources=flyte.Resources(cpu=1.5, memory="512Mi", gpu=1, shm="1Gi"),
)

own_command = flyte.app.AppEnvironment(
    name="own-command",
    command=["python", "-m", "http.server", "8000"],
    port=8000,
    resources=flyte.Resources(gpu="L40s:1"),
)

own_command_as_text = flyte.app.AppEnvironment(
    name="own-command-as-text",
    command="python -c 'print(1)'",
    port=flyte.app.Port(port=8001, name="h2c"),
    resources=flyte.Resources(gpu=flyte.GPU("A100", 2, "1g.5gb")),
)

secretive = flyte.app.AppEnvironment(
    name="secretive",
    args=["server", "--api-key", "$API_KEY"],
    secrets=[
        flyte.Secret(key="API_KEY", as_env_var="API_KEY"),
        flyte.Secret(key="db-password", group="team"),
        flyte.Secret(key="TOKEN", mount=Path("/etc/flyte/secrets")),
        "PLAIN",
    ],
    env_vars={"MODE": "test", "SPACED": "a b $HOME"},
    service_account="robot",
    interruptible=True,
)

web = FastAPI()

public = FastAPIAppEnvironment(
    name="public",
    app=web,
    requires_auth=False,
    depends_on=[secretive],
    domain=flyte.app.Domain(subdomain="shop", custom_domain="shop.example.org"),
    timeouts=flyte.app.Timeouts(request=timedelta(seconds=90)),
    links=[
        flyte.app.Link(path="/admin", title="Admin", is_relative=True),
        flyte.app.Link(path="https://example.org", title="Manual"),
    ],
    parameters=[
        flyte.app.Parameter(name="greeting", value="hello", env_var="GREETING"),
        flyte.app.Parameter(name="upstream", value=flyte.app.AppEndpoint(app_name="secretive"), env_var="UP"),
        flyte.app.Parameter(
            name="model", value=flyte.io.File.from_existing_remote("s3://bucket/model.bin"), mount="/models"
        ),
        flyte.app.Parameter(
            name="data", value=flyte.io.Dir.from_existing_remote("s3://bucket/data"), ignore_patterns=["*.tmp"]
        ),
    ],
    image=flyte.Image.from_debian_base(python_version=(3, 11))
    .with_apt_packages("libgomp1", "git")
    .with_pip_packages(
        "httpx",
        index_url="https://packages.example.org/simple",
        extra_index_urls=["https://other.example.org/simple"],
        pre=True,
        extra_args="--no-deps",
    )
    .with_requirements(HERE / "requirements.txt")
    .with_commands(["echo hello > /tmp/hello"])
    .with_env_vars({"PATH_EXTRA": "/x/bin:$PATH"})
    .with_workdir("/srv"),
    include=["data/*.txt", "requirements.txt"],
)

pooled = flyte.app.AppEnvironment(
    name="pooled", args=["x"], cluster_pool="gpu-pool", image="ghcr.io/example/thing:1", domain=None
)
pinned = flyte.app.AppEnvironment(
    name="pinned",
    args=["x"],
    cluster="east-1",
    domain=flyte.app.Domain(subdomain=flyte.app.Subdomain(app_name="east")),
)
bare = flyte.app.AppEnvironment(name="bare")


@bare.server
async def serve() -> None:
    """A server function of the app's own."""


@bare.on_startup
async def start() -> None:
    """Before it."""
