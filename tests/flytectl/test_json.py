"""``--json``: every command that answers with data has it, and so have its errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flytectl import cli
from flyted.contract import wire
from flyted.contract.answers.codec import Answer
from flyted.contract.answers.images import Pruned, PulledImage, Rebuilt
from flyted.contract.answers.machine import Done
from flyted.contract.answers.models import ModelStatus
from flyted.contract.answers.secrets import SecretStatus, Stored
from flyted.contract.answers.tokens import LoginLink, Minted, TokenStatus
from flyted.contract.version import VERSION
from tests.answers import app_status, sent, whole
from tests.flytectl.loading import load_file, needs_sdk
from tests.flytectl.stub_daemon import error, result

pytestmark = pytest.mark.slow

NO_JSON = {"config init": "its answer is a file of Flyte's, in YAML"}


@pytest.mark.parametrize("row", cli.COMMANDS)
def test_every_command_that_answers_with_data_can_do_so_in_json(row: str) -> None:
    """One word for it everywhere; what has none is named here with the reason."""
    options = {text for param in cli.load_command(row).params for text in param.opts}
    assert ("--json" in options) != (row in NO_JSON)


SECRET = whole(SecretStatus, key="K")
TOKEN = whole(TokenStatus, id="5f", kind="named", name="ci")
MODEL = ModelStatus("m", "/m", bytes=1, problem="", added_at=1.0)


@pytest.mark.parametrize(
    ("words", "answered", "name", "value"),
    [
        (["secret", "create", "K", "v"], Stored(SECRET, ()), "rolled", []),
        (["secret", "delete", "K", "--yes"], SECRET, "key", "K"),
        (["secret", "accept-rollback"], Done(), "accepted", True),
        (["model", "add", "m", "/m"], MODEL, "added_at", "1970-01-01T00:00:01.000000Z"),
        (["model", "rm", "m"], MODEL, "models", [{**sent(MODEL), "added_at": "1970-01-01T00:00:01.000000Z"}]),
        (["token"], Minted("t", "me", 1.0), "token", "t"),
        (["image", "pull", "nginx"], whole(PulledImage, digest="sha256:ab"), "digest", "sha256:ab"),
        (["image", "rebuild", "ab"], Rebuilt("ab", "cd", ("a",), ()), "deployed", ["a"]),
        (["image", "prune", "--yes"], Pruned((), 2, 3, 4), "bytes", 4),
        (["image", "prune", "--dry-run"], Pruned((), 2, 3, 4), "layers", 2),
        (["login"], LoginLink("https://x", 1.0, "c"), "expires_at", "1970-01-01T00:00:01.000000Z"),
    ],
)
def test_what_changes_something_answers_in_json(
    stub_daemon, capsys, words: list[str], answered: Answer, name: str, value: Any
) -> None:
    """The fields that flytectl(1) names, on standard output, and nothing else there."""
    stub_daemon(wire.encode({"result": answered}))
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[name] == value


def test_revoked_tokens_in_json(stub_daemon, capsys) -> None:
    """All that one word meant."""
    stub_daemon(result(tokens=[TOKEN]))
    assert cli.main(["token", "revoke", "ci", "--json"]) == 0
    assert [token["id"] for token in json.loads(capsys.readouterr().out)["tokens"]] == ["5f"]


@pytest.mark.parametrize("row", [row for row in cli.COMMANDS if row not in NO_JSON])
def test_errors_of_every_command_are_json_too(row: str, tmp_path, monkeypatch, capsys) -> None:
    """One line on standard error, whether the words are wrong or the daemon is away."""
    monkeypatch.setenv("FLYTED_SOCKET", str(tmp_path / "nobody"))
    assert cli.main([*row.split(" "), "--json", "--no-such-option"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "usage"


def test_an_option_before_the_next_word_is_no_option_of_it(capsys) -> None:
    """`token` is a command and the beginning of others."""
    assert cli.main(["token", "--json", "ls"]) == 2
    assert "after that word" in json.loads(capsys.readouterr().err)["error"]


SEVERAL = """
import flyte.app
base = flyte.app.AppEnvironment(name="base", args=["true"], requires_auth=False)
top = flyte.app.AppEnvironment(name="top", args=["true"], requires_auth=False, depends_on=[base])
"""


@needs_sdk
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_serve_tells_what_serves_already_when_a_later_app_fails(
    stub_daemon, tmp_path, monkeypatch, capsys, words: list[str]
) -> None:
    """Whoever reads only standard output knows it, as with several names of `app start`."""

    def answer(request: dict[str, Any]) -> bytes:
        if request["verb"] == "app.serve" and request["args"]["spec"]["key"]["name"] == "top":
            return error("deploy-failed", "it did not start")
        return result(version=VERSION, protocol=1, app=app_status("base", url="https://base"), changed=True)

    file = tmp_path / "several.py"
    file.write_text(SEVERAL)
    monkeypatch.setattr("flytectl.load.load", lambda path, **_: load_file(path))
    stub_daemon(answer)
    assert cli.main(["serve", *words, str(file)]) == 8
    shown = capsys.readouterr()
    assert "it did not start" in shown.err
    if words:
        assert [(app["name"], app["changed"]) for app in json.loads(shown.out)["apps"]] == [("base", True)]
    else:
        assert shown.out == "https://base\n"
