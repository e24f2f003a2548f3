"""Flyte's guide "Secret-based authentication", from top to bottom, word for word, against this machine.

Each test is a section of it and needs those before; run again, it first takes back what it made. Each command is
shown, and what it says.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit.companion_sdk import HOME, SHARE, Desk, clear, files
from tests.machine.kit.users import EXAMPLES, alice, curl, give

DOCUMENT = Path(__file__).parents[1] / "document"
SEEDS = {
    EXAMPLES / "basic_auth.py": "c77f7331d5acbf0b29af1f3f44afafb06bc30ab1f201640eede95989b6330965",
    DOCUMENT / "vllm_with_auth.py": "be841c5172926995b5bbe0f4dfc44b0611c9e004323acd1d94b08fc18453dcd7",
    DOCUMENT / "sglang_with_auth.py": "62df736bd68c58e9b3a19be689ebd93ad154d426ed51ecb67cd2369fe7028f14",
}
"""The guide's scripts, by the digest of their bytes."""
ENVIRONMENT = HOME / "document-env"
APP = "authenticated-api"
SCOPED = "API_KEY -p my-project -d development"
MADE = ("API_KEY", "AUTH_SECRET", SCOPED)
KEY = "my-secret-api-key-12345"


@pytest.fixture(scope="module")
def table() -> Iterator[Desk]:
    """What a reader has before the first line of the guide."""
    folder = files("document", *SEEDS)
    clear(*MADE, apps=(APP,))
    alice("python3", "-m", "venv", str(ENVIRONMENT))
    yield Desk(folder, ENVIRONMENT)
    clear(*MADE, apps=(APP,))


@pytest.fixture
def desk(table: Desk, capsys: pytest.CaptureFixture[str]) -> Desk:
    """The same, showing what is done at it."""
    return dataclasses.replace(table, show=capsys)


def endpoint(said: str) -> str:
    """The address in the last line but empty ones."""
    last = said.rstrip().rpartition("\n")[2]
    found = re.fullmatch(r"🚀 Deployed Endpoint: (https://authenticated-api\.apps\.localhost(?::\d+)?)", last)
    assert found is not None, said
    return found[1]


def status_lines(said: str) -> list[str]:
    """The lines that the guide shows."""
    return [line for line in said.splitlines() if re.match(r"✨|🔎|\[Status\]|🚀", line)]


def test_install(desk: Desk) -> None:
    """PyPI's ``flyte`` and the wheel of the package; the scripts are the guide's, to the byte."""
    pip = "pip install --quiet --disable-pip-version-check"
    desk.works(f"{pip} flyte==2.12.1 'flyted[sdk]' --find-links {SHARE}")
    desk.works(f"{pip} flyteplugins-vllm flyteplugins-sglang")
    assert "2.12.1" in desk.works("flyte --version")
    for path, digest in SEEDS.items():
        assert hashlib.sha256((desk.folder / path.name).read_bytes()).hexdigest() == digest


def test_configure(desk: Desk) -> None:
    """``config init`` writes where it is told, overwrites nothing, and names what else is of use."""
    (desk.folder / "box.yaml").unlink(missing_ok=True)
    said = desk.works("flytectl config init box.yaml --project p1")
    assert "wrote box.yaml" in said
    assert "SSL_CERT_FILE" in said
    assert 'project: "p1"' in (desk.folder / "box.yaml").read_text()
    refused = desk.run("flytectl config init box.yaml")
    assert refused.returncode == 5
    assert "add --force" in refused.stdout
    assert "p1" in (desk.folder / "box.yaml").read_text()
    desk.works("flytectl config init box.yaml --force")
    assert (desk.folder / "box.yaml").read_text() == (desk.folder / "config.yaml").read_text()
    assert "alice" in desk.works("flyte -c box.yaml whoami")


def test_an_untrusted_certificate_is_explained(desk: Desk) -> None:
    """The SDK says that the service is unavailable; the companion says what to type."""
    text = (desk.folder / "config.yaml").read_text()
    give(
        "document/untrusted.yaml",
        text.replace("/run/flyted/ca.pem", "/usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt"),
    )
    for command in ("get app", "serve basic_auth.py"):
        said = desk.fails(f"flyte -c untrusted.yaml {command}")
        assert "flytectl config init --force" in said
        assert "SSL_CERT_FILE" in said


def test_create_the_secret(desk: Desk) -> None:
    """The value as the second word; it is not shown again."""
    clear("API_KEY")
    assert KEY not in desk.works(f"flyte create secret API_KEY {KEY}")
    assert "already exists" in desk.fails(f"flyte create secret API_KEY {KEY}")


def test_deploy_with_python(desk: Desk) -> None:
    """``python basic_auth.py`` prints both addresses, and both answer."""
    said = desk.works("python basic_auth.py")
    found = re.search(r"^API URL: (https://\S+)\nSwagger docs: (https://\S+/docs)$", said, re.MULTILINE)
    assert found is not None
    assert json.loads(curl(f"{found[1]}/public")[1]) == {"message": "This is public"}
    assert curl(found[2])[0] == 200


def test_deploy_with_flyte(desk: Desk) -> None:
    """``flyte serve basic_auth.py`` shows the guide's lines, in its order, and ends with its last."""
    desk.works("python basic_auth.py")
    assert "Pending" not in desk.works("flyte serve basic_auth.py")  # it is this very app
    desk.works(f"flyte delete app {APP}")
    said = desk.works("flyte serve basic_auth.py")
    first, console, *states, last = status_lines(said)
    assert first == f"✨ Deploying Application: {APP}"
    assert re.fullmatch(rf"🔎 Console URL: https://flyted\.localhost\S*/apps/{APP}", console)
    assert states.pop() == "[Status] Started: Service is ready"
    assert states
    assert all(re.fullmatch(r"\[Status\] Pending: \S.*", state) for state in states)
    assert last.endswith(endpoint(said))


def test_invoke_the_endpoint(desk: Desk) -> None:
    """The guide's curl gets the guide's answer; without the key, or with another one, there is none."""
    url = endpoint(desk.works("flyte serve basic_auth.py env"))
    get = f'curl -sS -X GET "{url}/protected"'
    answer = desk.works(f'{get} \\\n-H "Authorization: Bearer {KEY}"')
    assert json.loads(answer) == {"message": "This is protected", "user": KEY}
    assert curl(f"{url}/protected")[0] in (401, 403)
    assert curl(f"{url}/protected", "-H", "Authorization: Bearer wrong")[0] == 403


def test_swagger_documentation(desk: Desk) -> None:
    """Swagger UI and ReDoc are there."""
    url = endpoint(desk.works("flyte deploy basic_auth.py"))
    assert [curl(f"{url}{path}")[0] for path in ("/docs", "/redoc", "/openapi.json")] == [200] * 3


@pytest.mark.parametrize("script", ["vllm_with_auth.py", "sglang_with_auth.py"])
def test_engines_are_refused_with_the_reason(desk: Desk, script: str) -> None:
    """Without a GPU that apps can have: at once, in words, whichever way it is asked for; nothing is left behind."""
    if script.startswith("vllm"):
        clear("AUTH_SECRET")
        desk.works("flyte create secret AUTH_SECRET my-llm-api-key-12345")
    for command in (f"python {script}", f"flyte serve {script}"):
        said = desk.fails(command)
        assert "not supported on this machine" in said
        assert "needs 1 × GPU; this machine has none" in said
    assert script.partition("_")[0] not in desk.works("flytectl app ls")


def test_scope_secrets(desk: Desk) -> None:
    """A secret of a project is another one than the machine's."""
    clear(SCOPED)
    desk.works("flyte create secret --project my-project --domain development API_KEY my-secret-value")
    assert "my-project" in desk.works("flyte get secret --project my-project --domain development API_KEY")


def test_troubleshooting(desk: Desk) -> None:
    """``flyte get secret`` finds both; no command shows a value."""
    for name in ("API_KEY", "AUTH_SECRET"):
        clear(name)
        desk.works(f"flyte create secret {name} {KEY}")
        said = desk.works(f"flyte get secret {name}")
        assert name in said
        assert "FULLY_PRESENT" in said
        assert KEY not in said
    assert "not found" in desk.fails("flyte get secret NO_SUCH_KEY").lower()
