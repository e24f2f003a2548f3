"""Did you mean: names like the one that was typed, and the same name in another scope."""

from __future__ import annotations

import pytest

from flytectl import cli
from flytectl.nearest import LISTINGS, Named, suggestion
from tests.flytectl.stub_daemon import error, result

APPS = [
    Named("hello", "default", "development"),
    Named("notes", "p", "production"),
]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("hallo", "did you mean 'hello'?"),
        ("notes", "'notes' is in another scope: -p p -d production"),
        ("note", ""),
        ("zzz", ""),
    ],
)
def test_an_app_that_is_nearly_there(name, hint):
    """Near names of this scope only; the same name wherever it is."""
    asked = {"name": name, "project": "default", "domain": "development"}
    assert suggestion(asked, LISTINGS["app.get"], APPS) == hint


def test_a_secret_of_the_whole_machine():
    """It has no scope to name."""
    there = [Named("API_KEY")]
    asked = {"key": "API_KEY", "project": "p", "domain": "d"}
    assert suggestion(asked, LISTINGS["secret.get"], there) == "'API_KEY' is machine-wide: omit -p and -d"
    assert suggestion({"key": "APIKEY"}, LISTINGS["secret.delete"], there) == "did you mean 'API_KEY'?"


def test_a_name_that_is_not_found_is_looked_up_in_the_list(stub_daemon, monkeypatch, capsys):
    """The hint of the daemon stays; a list that cannot be had changes nothing."""
    asked = stub_daemon(error("not-found", "no app 'hallo'", "flytectl app ls"))
    assert cli.main(["app", "get", "hallo"]) == 4
    assert capsys.readouterr().err == "flytectl: no app 'hallo'\n  hint: flytectl app ls\n"
    assert [request["verb"] for request in asked.requests] == ["app.get", "app.list"]


def test_an_empty_list_names_its_scope(stub_daemon, capsys):
    """Not "no apps yet" when there may be some elsewhere."""
    stub_daemon(result(apps=[]))
    assert cli.main(["app", "ls", "-p", "nope"]) == 0
    assert "no apps in project 'nope', domain 'development'" in capsys.readouterr().err
    assert cli.main(["app", "ls", "--all"]) == 0
    assert capsys.readouterr().err == "no apps; to serve one: flytectl serve FILE\n"
