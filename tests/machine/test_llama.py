"""llama.cpp on the machine: its real server, a real model, with Flyte's plug-in and without."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit.apps import state
from tests.machine.kit.leaks import Search
from tests.machine.kit.llama import (
    ANSWER,
    FILE,
    HUB_NAME,
    KEY,
    MODEL,
    ON_AND_ON,
    PLAIN,
    SAY_HI,
    Client,
    forget,
    install,
    main_pid,
    serve,
    server_of,
    write,
)  # fmt: skip
from tests.machine.kit.programs import inside, unit
from tests.machine.kit.users import alice, answer, by, until

CHAT = "/v1/chat/completions"
HI = {"messages": SAY_HI}
SEARCH = Search(KEY)
IN_PLUGIN, IN_COMMAND = "llama-plugin", "llama-command"


@pytest.fixture(scope="module", autouse=True)
def _installed() -> Iterator[None]:
    with SEARCH.never_on_the_bus(), SEARCH.never_in_command_lines():
        install()
        serve(IN_PLUGIN, options=("--ctx-size", "4096"))
        serve(IN_COMMAND, PLAIN)
    yield
    forget(*(app["name"] for app in answer("app", "ls")["apps"] if app["name"].startswith("llama-")))
    assert SEARCH.found() == []


@pytest.fixture(scope="module", params=[IN_PLUGIN, IN_COMMAND])
def name(request: pytest.FixtureRequest) -> str:
    """An app that serves the model: by the plug-in, and by its own command."""
    return str(request.param)


@pytest.fixture
def client(name: str) -> Client:
    """Who has its key."""
    return Client(answer("app", "get", name)["url"])


def test_it_chats_with_who_has_the_key(name: str, client: Client) -> None:
    """The model's own answer, through HTTPS; without the key, or with another, 401 by the server itself."""
    assert client.chat() == ANSWER
    assert client.chat(temperature=1.5, seed=7) == ANSWER
    url = answer("app", "get", name)["url"]
    for key in ("", "llm-key-of-somebody", "$AUTH_SECRET", "$LLAMA_API_KEY"):
        assert Client(url, key).status(CHAT, HI) == 401, key


def test_what_flyted_knows_of_it_is_shown(name: str) -> None:
    """Type, open paths and models: for people and in JSON."""
    app = answer("app", "get", name)
    shown = alice("flytectl", "app", "get", name).stdout
    assert app["port"] == 8080
    assert {"/v1", "/completion", "/props", "/health"} < set(app["open_paths"])
    assert "/health, and nothing else" in shown
    if name == IN_PLUGIN:
        assert (app["type"], app["models"]) == ("llama.cpp", [[HUB_NAME, str(MODEL)]])
        assert f"{HUB_NAME} in {MODEL}" in shown


def test_its_arguments_have_the_model_and_not_the_key(name: str) -> None:
    """The plug-in's console script becomes llama-server, whose arguments everybody may read; the key is a variable."""
    process = Path(f"/proc/{server_of(name)}")
    words = (process / "cmdline").read_text().split("\0")
    assert words[words.index("--model" if name == IN_PLUGIN else "-m") + 1] == str(MODEL / FILE)
    assert "--api-key" not in words
    assert f"LLAMA_API_KEY={KEY}".encode() in (process / "environ").read_bytes().split(b"\0")


def test_the_key_is_nowhere_else() -> None:
    """Not in any argument while they start and answer, in no file, journal line or property of a unit."""
    with SEARCH.never_in_command_lines():
        for name in (IN_PLUGIN, IN_COMMAND):
            alice("flytectl", "app", "sleep", name)
            assert Client(answer("app", "get", name)["url"]).chat() == ANSWER
    assert SEARCH.found() == []


def ended(service: str) -> str:
    """How systemd says that a unit ended, after llama-server said that it does."""
    words = ["journalctl", "-b", "-o", "cat", f"_SYSTEMD_UNIT={service}", "+", f"UNIT={service}"]
    journal = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    last = journal.rpartition("cleaning up before exit")[2]
    found = re.search(r"Deactivated successfully|Failed with result '.*'", last)
    return found[0] if found else journal


@pytest.mark.parametrize("path", ["/", "/index.html", "/tools", "/cors-proxy", "/models", "/v1x", "/no-such"])
def test_paths_that_the_key_does_not_guard_are_closed(name: str, client: Client, path: str) -> None:
    """By the ingress, for everybody, and in the way that a client understands."""
    url = answer("app", "get", name)["url"]
    for who in (client, Client(url, "")):
        with who.asked(path) as response:
            assert (response.status, b"this path is not public" in response.read()) == (403, True)
    assert client.status("/props") == 200
    assert Client(url, "").status("/props") == 401


@pytest.mark.parametrize(
    "path", ["/v1/../index.html", "/v1/%2e%2e/index.html", "//index.html", "/v1//models", "/./props"]
)
def test_no_other_spelling_opens_one(client: Client, path: str) -> None:
    """A path that might be read in two ways is refused, with the key too."""
    assert client.status(path) == 403


def test_open_path_opens_what_it_names_and_no_more() -> None:
    """One page of the web interface; then all of it. What the key guards it guards as before."""
    url = serve("llama-open", PLAIN, "--open-path", "/index.html")
    with Client(url, "").asked("/index.html") as response:
        assert response.status in (200, 415)  # the page itself, which it has for browsers only: gzip
        assert b"closed" not in response.read()
    assert Client(url, "").status("/") == 403
    assert "/index.html" in answer("app", "get", "llama-open")["open_paths"]
    url = serve("llama-open", PLAIN, "--open-path", "/")
    assert Client(url, "").status("/") in (200, 415)
    assert Client(url, "").status("/tools") == 401
    assert Client(url, "").status(CHAT, HI) == 401
    assert Client(url).chat() == ANSWER
    assert answer("app", "get", "llama-open")["open_paths"] is None


def test_a_request_waits_until_the_model_is_loaded() -> None:
    """llama-server listens before: it says 503 then, which no client gets to see."""
    url = serve("llama-slow", options=("--no-mmap",))
    alice("flytectl", "app", "sleep", "llama-slow")
    said: list[str] = []
    asking = threading.Thread(target=lambda: said.append(Client(url).chat()))
    asking.start()
    until(lambda: main_pid("llama-slow") > 0)
    own: set[bytes] = set()  # what its own port says meanwhile, in its own network
    with inside(main_pid("llama-slow")):
        while asking.is_alive():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 8080), 1) as connection:
                connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                own.add(connection.recv(12)[-3:])
    asking.join()
    assert said == [ANSWER]
    assert b"503" in own
    forget("llama-slow")


def test_idle_it_is_gone_and_a_request_brings_it_back() -> None:
    """After the time that the file names; never while it still answers somebody."""
    url = serve("llama-nap", PLAIN, scaledown=3)
    client = Client(url)
    with client.asked(CHAT, {"messages": SAY_HI, "stream": True, "ignore_eos": True, "max_tokens": 3000}) as response:
        assert response.status == 200
        first = server_of("llama-nap")
        text = response.read()  # seconds more than it may be idle
    assert text.rstrip().endswith(b"data: [DONE]")
    assert text.count(b"data: ") > 3000
    assert server_of("llama-nap") == first
    until(lambda: state("llama-nap") == "sleeping")
    assert main_pid("llama-nap") == 0
    assert client.chat() == ANSWER
    assert server_of("llama-nap") != first
    forget("llama-nap")


def test_a_stop_finishes_what_is_being_said(name: str, client: Client) -> None:
    """SIGTERM goes to llama-server when nobody is being answered; it ends by itself, and says so."""
    service = unit(name)
    with client.asked(CHAT, {"messages": SAY_HI, "stream": True, "ignore_eos": True, "max_tokens": 2000}) as response:
        began = response.readline()
        stopping = threading.Thread(target=alice, args=("flytectl", "app", "sleep", name))
        stopping.start()
        text = began + response.read()
    stopping.join()
    assert text.rstrip().endswith(b"data: [DONE]")
    assert state(name) == "sleeping"
    assert ended(service) == "Deactivated successfully"


def test_a_stream_that_goes_on_for_ever_is_cut_off() -> None:
    """After the time that requests in flight are given, so a stop always ends; the server ends by itself then."""
    url, service = answer("app", "get", IN_COMMAND)["url"], unit(IN_COMMAND)
    with Client(url).asked(CHAT, {"messages": SAY_HI, "stream": True, **ON_AND_ON}) as response:
        assert response.readline().startswith(b"data: ")
        alice("flytectl", "app", "sleep", IN_COMMAND)
        assert ended(service) == "Deactivated successfully"
        with pytest.raises(http.client.IncompleteRead):
            response.read()
    assert "requests are still in flight: closing their connections" in alice("flytectl", "logs", IN_COMMAND).stdout
    assert Client(url).chat() == ANSWER


def test_a_broken_model_is_told_in_the_servers_words() -> None:
    """The revision before it goes on."""
    url = serve("llama-broken", PLAIN)
    broken = MODEL.parent / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(60))
    source = PLAIN.replace(str(MODEL / FILE), str(broken))
    done = by("alice", "flytectl", "serve", write("llama-broken", source))
    assert done.returncode == 8
    assert "did not start" in done.stderr
    assert re.search(r"load_model: failed to load model.*broken\.gguf", done.stderr), done.stderr
    assert Client(url).chat() == ANSWER
    assert "status 1" in answer("app", "get", "llama-broken")["last_failure"]["reason"]
    broken.unlink()
    forget("llama-broken")
