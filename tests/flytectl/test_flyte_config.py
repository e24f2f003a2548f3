"""The configuration that ``flytectl config init`` writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flytectl import flyte_config
from flyted.contract.answers.machine import GatewayPlace
from flyted.contract.errors import AlreadyExists, FlytedError, HostFailure, InvalidInput

GATEWAY = GatewayPlace("flyted.localhost", 443, "/run/flyted/ca.pem")


def read(text: str, folder: Path) -> Any:
    """What the SDK reads in it."""
    config = pytest.importorskip("flyte.config")
    file = folder / "config.yaml"
    file.write_text(text)
    return config.auto(file)


def test_the_sdk_reads_what_we_mean(tmp_path: Path) -> None:
    """By its own reader: every key has its place, and the section of our own disturbs nothing."""
    found = read(flyte_config.render(GATEWAY, "p1", "production"), tmp_path)
    platform = found.platform
    assert (platform.endpoint, platform.insecure) == ("dns:///flyted.localhost", False)
    assert platform.ca_cert_file_path == "/run/flyted/ca.pem"
    assert (platform.auth_mode, platform.command) == ("ExternalCommand", ["flytectl", "token"])
    assert platform.disable_keyring is True
    assert (found.task.org, found.task.project, found.task.domain) == ("local", "p1", "production")
    assert found.image.builder == "remote"


def test_another_port_is_part_of_the_endpoint(tmp_path: Path) -> None:
    """Where 443 was taken; and the mark names the host alone."""
    text = flyte_config.render(replace(GATEWAY, https_port=8443), "default", "development")
    assert read(text, tmp_path).platform.endpoint == "dns:///flyted.localhost:8443"
    assert text.endswith('flyted:\n  host: "flyted.localhost"\n')


@pytest.mark.parametrize(("project", "domain"), [("Bad Name", "d"), ("p", "x: y"), ("p\nq", "d"), ("", "d")])
def test_a_bad_name_is_refused(project: str, domain: str) -> None:
    """Before anything is written."""
    with pytest.raises(InvalidInput):
        flyte_config.render(GATEWAY, project, domain)


def test_it_makes_the_folder_and_overwrites_nothing(tmp_path: Path) -> None:
    """The same text again is fine; another one stays, unless one insists."""
    path = tmp_path / "new/.flyte/config.yaml"
    flyte_config.write(path, "one", force=False)
    flyte_config.write(path, "one", force=False)
    with pytest.raises(AlreadyExists) as raised:
        flyte_config.write(path, "two", force=False)
    assert "--force" in raised.value.hint
    assert path.read_text() == "one"
    flyte_config.write(path, "two", force=True)
    assert path.read_text() == "two"
    assert [p.name for p in path.parent.iterdir()] == ["config.yaml"]


def test_a_place_that_takes_no_file_is_named(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(HostFailure) as raised:
        flyte_config.write(tmp_path / "file/config.yaml", "x", force=True)
    assert isinstance(raised.value, FlytedError)
    assert "file/config.yaml" in raised.value.message
