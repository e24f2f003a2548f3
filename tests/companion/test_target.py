"""Which configurations point at a flyted."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyted.companion import target


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("dns:///flyted.localhost", "flyted.localhost"),
        ("dns:///flyted.localhost:8443", "flyted.localhost"),
        ("https://Flyted.Localhost/", "flyted.localhost"),
        ("flyted.localhost:8443", "flyted.localhost"),
        ("dns:///flyted.localhost.example.org", "flyted.localhost.example.org"),
        ("", ""),
        (None, ""),
    ],
)
def test_the_host_of_an_endpoint(endpoint: object, host: str) -> None:
    """With and without scheme and port, in any case."""
    assert target.host_of(endpoint) == host


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("flyted: {host: box.example.org}", "box.example.org"),
        ("flyted: {host: 'https://Box.example.org:8443'}", "box.example.org"),
        ("admin: {endpoint: x}", ""),
        ("flyted: yes", ""),
        ("flyted: {host: [1]}", ""),
        ("", ""),
        ("{", ""),
    ],
)
def test_a_file_can_mark_a_host(text: str, host: str, tmp_path: Path) -> None:
    """And one that says something else, or nothing that can be read, marks none."""
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert target.marked(file) == host
    assert target.marked(tmp_path / "none.yaml") == ""
    assert target.marked(None) == ""


def test_no_command_and_no_connection_is_no_flyted() -> None:
    """Before the SDK is connected nothing of it is changed."""
    pytest.importorskip("flyte")
    assert not target.of_command()
    assert not target.of_process()
