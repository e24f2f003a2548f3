"""Who opens an app's port, what is spoken there, and which path says that the app is ready."""

from __future__ import annotations

import copy
import re

import pytest

from flyted.contract.app import from_dict, to_dict
from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.idl import spec_of
from tests.contract.described import IDL


@pytest.mark.parametrize(
    ("command", "args", "port"),
    [
        (["fserve", "--"], [], 0),  # a server function
        (["fserve", "--"], ["python", "-m", "http.server"], 9000),
        (["vllm-fserve", "--port", "9000"], [], 9000),
        (["uvicorn", "main:app"], [], 0),
        (["fserve", "--"], ["/opt/venv/bin/uvicorn", "main:app"], 0),
        (["python", "-m", "uvicorn", "main:app"], [], 9000),
    ],
)
def test_a_program_has_the_port_of_the_app(command: list[str], args: list[str], port: int) -> None:
    """All but those that are known to serve on the socket they inherit."""
    idl = copy.deepcopy(IDL)
    idl["spec"]["container"] |= {"command": command, "args": args, "ports": [{"containerPort": 9000}]}
    spec = spec_of(idl)
    assert spec.port == port
    assert from_dict(to_dict(spec)) == spec


@pytest.mark.parametrize(("name", "h2c"), [(None, False), ("", False), ("http1", False), ("h2c", True)])
def test_the_name_of_a_port_says_what_is_spoken_there(name: str | None, h2c: bool) -> None:
    """As for Knative, and so for Flyte: h2c is HTTP/2 without TLS, which gRPC needs."""
    idl = copy.deepcopy(IDL)
    port = {"containerPort": 9000} | ({"name": name} if name is not None else {})
    idl["spec"]["container"] |= {"command": ["c0"], "args": ["--port", "9000"], "ports": [port]}
    assert (spec_of(idl).port, spec_of(idl).h2c) == (9000, h2c)
    assert from_dict(to_dict(spec_of(idl))).h2c is h2c


@pytest.mark.parametrize(
    ("command", "args", "name", "said"),
    [
        (["c0"], [], "grpc", "a port named 'grpc' is not known"),
        (["uvicorn"], ["main:app"], "h2c", "uvicorn supports only HTTP/1.1"),
        (["fserve", "--"], ["uvicorn", "main:app"], "h2c", "uvicorn supports only HTTP/1.1"),
        (["fserve", "--"], ["python", "-m", "uvicorn", "main:app"], "h2c", "uvicorn supports only HTTP/1.1"),
    ],
)
def test_what_cannot_be_spoken_at_a_port_is_refused(command: list[str], args: list[str], name: str, said: str) -> None:
    """By name, at serve: it was accepted, and each request got 502."""
    idl = copy.deepcopy(IDL)
    ports = [{"containerPort": 9000, "name": name}]
    idl["spec"]["container"] |= {"command": command, "args": args, "ports": ports}
    with pytest.raises(Unsupported, match=re.escape(said)):
        spec_of(idl)


def test_a_server_function_may_speak_h2c() -> None:
    """Whatever it starts; what that speaks shows at its start."""
    idl = copy.deepcopy(IDL)
    ports = [{"containerPort": 9000, "name": "h2c"}]
    idl["spec"]["container"] |= {"command": ["fserve", "--"], "args": [], "ports": ports}
    spec = spec_of(idl)
    assert (spec.port, spec.server_port, spec.h2c) == (0, 9000, True)
    assert from_dict(to_dict(spec)) == spec


def test_a_program_without_a_port_has_flytes_default() -> None:
    """8080, which is absent nowhere but in other people's IDL."""
    idl = copy.deepcopy(IDL)
    idl["spec"]["container"] |= {"args": ["streamlit", "hello"], "ports": []}
    assert spec_of(idl).port == 8080


def test_uvicorn_has_no_port_and_the_file_one() -> None:
    """It is given a socket; what the file says is the variable PORT, as on a cluster."""
    idl = copy.deepcopy(IDL)
    idl["spec"]["container"] |= {"args": ["uvicorn", "main:app"], "ports": [{"containerPort": 9000}]}
    spec = spec_of(idl)
    assert (spec.port, spec.server_port, spec.container_port) == (0, 0, 9000)
    assert from_dict(to_dict(spec)) == spec


@pytest.mark.parametrize("port", [8012, 8022, 8112, 9090, 9091, 65536, -1, 0, "8080", None, True])
def test_ports_that_cannot_be_are_refused(port: object) -> None:
    """Flyte's own, and numbers outside 1..65535."""
    idl = copy.deepcopy(IDL)
    idl["spec"]["container"] |= {"args": ["streamlit", "hello"], "ports": [{"containerPort": port}]}
    with pytest.raises(InvalidInput, match="port"):
        spec_of(idl)


@pytest.mark.parametrize(
    ("args", "env", "ports"),
    [
        ([], {}, (0, 8080)),
        (["uvicorn", "m:app"], {}, (0, 0)),
        (["uvicorn", "m:app", "--workers", "1"], {}, (0, 0)),
        (["uvicorn", "m:app", "--workers", "2"], {}, (8080, 0)),
        (["uvicorn", "m:app", "--workers=3"], {}, (8080, 0)),
        (["uvicorn", "m:app", "--reload"], {}, (8080, 0)),
        (["uvicorn", "m:app"], {"WEB_CONCURRENCY": "2"}, (8080, 0)),
        (["uvicorn", "m:app"], {"UVICORN_WORKERS": "2"}, (8080, 0)),
        (["streamlit run", "x.py"], {}, (8080, 0)),
        (["cd", "x", "&&", "uvicorn", "m:app"], {}, (8080, 0)),
    ],
)
def test_who_opens_a_port(args: list[str], env: dict[str, str], ports: tuple[int, int]) -> None:
    """A program; a server function may; uvicorn in one process is given its socket."""
    idl = copy.deepcopy(IDL)
    idl["spec"]["container"] |= {"args": args, "env": [{"key": k, "value": v} for k, v in env.items()]}
    spec = spec_of(idl)
    assert (spec.port, spec.server_port) == ports


@pytest.mark.parametrize("path", ["health", "/a b", "/a\n", "/a#b", "/" + "x" * 300, "/na\u00efve"])
def test_a_ready_path_is_one_of_a_request(path: str) -> None:
    """It is written into one."""
    with pytest.raises(InvalidInput, match="not a valid request path"):
        spec_of(IDL, ready_path=path)
    assert spec_of(IDL, ready_path="/-/routes?x=1").ready_path == "/-/routes?x=1"
    for seconds in (0.5, 7201.0):
        with pytest.raises(InvalidInput, match="1 s to 2 hours"):
            spec_of(IDL, start_timeout_s=seconds)


@pytest.mark.parametrize("port", [{}, {"containerPort": 0}, {"name": "http1"}])
def test_port_0_is_none(port: dict[str, object]) -> None:
    """Protobuf leaves a 0 out; it is not the default port."""
    idl = copy.deepcopy(IDL)
    idl["spec"]["container"]["ports"] = [port]
    with pytest.raises(InvalidInput, match="0 is not a TCP port"):
        spec_of(idl)
