"""Who gets an answer of the gateway, what it keeps, what its unit may do, and when it ends."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.machine.kit.gateway import CANARY, RPC, STATE, UNIT, pid, rpc, token
from tests.machine.kit.pypi_flyte import GATEWAY, flyte
from tests.machine.kit.users import alice, by, curl, forget_secrets, forget_tokens, until

pytestmark = pytest.mark.usefixtures("pypi_flyte")


def test_no_token_no_answer() -> None:
    """None, nonsense, an expired one, a revoked one: unauthenticated, at once; a good one is answered."""
    assert rpc()[0] == 401
    assert rpc("-H", "Authorization: Bearer nonsense")[0] == 401
    good = token()
    assert rpc("-H", f"Authorization: Bearer {good}")[0] == 200
    alice("flytectl", "token", "revoke", good)
    assert rpc("-H", f"Authorization: Bearer {good}")[0] == 401
    forget_tokens("short")
    short = alice("flytectl", "token", "create", "--name", "short", "--expires", "1s").stdout.split()[-1]
    until(lambda: rpc("-H", f"Authorization: Bearer {short}")[0] == 401)


def test_who_leaves_the_group_loses_the_right_at_once() -> None:
    """A token is good for as long as its owner is a member."""
    alice("sudo", "adduser", "mallory", "flyted")
    try:
        held = by("mallory", "flytectl", "token").stdout.strip()
        assert rpc("-H", f"Authorization: Bearer {held}")[0] == 200
    finally:
        alice("sudo", "deluser", "mallory", "flyted")
    assert rpc("-H", f"Authorization: Bearer {held}")[0] == 401


def test_a_message_of_100_mib_is_refused_cheaply() -> None:
    """Neither memory nor disk is spent on it."""
    huge = Path("/home/alice/huge")
    with huge.open("wb") as file:
        file.truncate(100 << 20)
    rpc("-H", f"Authorization: Bearer {token()}")
    before = rss()
    status, said = curl(
        RPC, "-H", f"Authorization: Bearer {token()}", "-H", "Content-Type: application/proto", "-T", str(huge),
        "-X", "POST", "-H", "Expect:",
    )  # fmt: skip
    huge.unlink()
    assert (status, "resource_exhausted" in said) == (429, True)
    assert rss() - before < 16 << 10


def rss() -> int:
    """KiB."""
    found = re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{pid()}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def upload(content: bytes = b"hello", **headers: str) -> dict[str, str]:
    """An upload location as JSON, asked for with curl."""
    body = {"project": "p1", "domain": "development", "filename": "f.bin"}
    body["contentMd5"] = base64.b64encode(hashlib.md5(content).digest()).decode()
    options = [word for name, value in headers.items() for word in ("-H", f"{name.replace('_', '-')}: {value}")]
    status, said = curl(
        f"{GATEWAY}/flyteidl2.dataproxy.DataProxyService/CreateUploadLocation", "-H", "Content-Type: application/json",
        "-H", f"Authorization: Bearer {token()}", "-d", json.dumps(body), *options,
    )  # fmt: skip
    assert status == 200, said
    found: dict[str, str] = json.loads(said)
    return found


def test_an_upload_in_the_clear_is_for_its_address_only() -> None:
    """Port 80 takes the PUT, and redirects everything else; what was sent cannot be had."""
    content = os.urandom(16).hex()
    where = upload(content.encode())["signedUrl"]
    assert where.startswith("http://flyted.localhost")
    put = ("-X", "PUT", "--data-binary")
    assert curl(where, *put, "wrong")[0] == 400
    assert curl(where, *put, content)[0] == 200
    assert curl(where, *put, "other")[0] == 200  # a replay changes nothing
    (kept,) = [path for path in (STATE / "blobs").iterdir() if path.read_bytes() == content.encode()]
    assert kept.stat().st_mode & 0o077 == 0
    assert curl(where)[0] == 308
    for path in ("/", "/login", "/flyteidl2.auth.IdentityService/UserInfo"):
        assert curl(where.partition("/upload/")[0] + path, "-X", "POST")[0] == 308
    assert curl(where[:-3] + "AAA", *put, content)[0] == 403


@pytest.mark.parametrize("late_s", [0.0, 0.05, 0.3])
def test_what_is_stored_already_can_be_sent_again(late_s: float) -> None:
    """The body may come later than its headers, as with httpx: the gateway could have answered before."""
    content = b"sent twice" * 400
    where = urlsplit(upload(content)["signedUrl"])
    head = f"PUT {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {len(content)}\r\n\r\n"
    for _ in range(3):
        with socket.create_connection((where.hostname or "", where.port or 80), timeout=30) as client:
            client.sendall(head.encode())
            time.sleep(late_s)
            client.sendall(content)
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")


def test_what_a_client_says_about_itself_is_not_believed() -> None:
    """The ingress deletes headers that only it may write."""
    where = upload(X_Flyted_Ports="1 2", X_Flyted_Local="0")["signedUrl"]
    assert ":2/" not in where
    assert where.startswith("http://")


def test_the_gateway_is_confined() -> None:
    """systemd's own judgement of the unit, and that its user is nobody's."""
    rpc()
    shown = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", UNIT], capture_output=True, text=True, check=True
    )
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", shown.stdout)
    assert exposure
    assert float(exposure[1]) <= 0.9
    status = Path(f"/proc/{pid()}/status").read_text()
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    assert not re.search(r"^Uid:\s+0\s", status, re.MULTILINE)
    assert len(Path(f"/proc/{pid()}/net/dev").read_text().splitlines()) == 3  # two lines of heading, and lo


def test_the_gateways_own_user_may_nothing() -> None:
    """Without a token flyted refuses it; and nobody else can even open the two sockets."""
    script = (
        "import sys; sys.path.insert(0, '/usr/lib/flyted')\n"
        "from flyted.contract.client import API_SOCKET, call\n"
        "from flyted.contract.errors import FlytedError\n"
        "try: print(call('app.list', {'project': '', 'domain': ''}, path=API_SOCKET))\n"
        "except FlytedError as error: print(error.code)\n"
    )
    done = subprocess.run(
        ["setpriv", "--reuid=nobody", "--regid=flyted-gateway", "--clear-groups", "python3", "-I", "-c", script],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "unauthenticated"
    for path in ("/run/flyted/gateway.sock", "/run/flyted/api.sock"):
        connect = f"import socket; socket.socket(socket.AF_UNIX).connect('{path}')"
        assert "PermissionError" in by("mallory", "/usr/bin/python3", "-c", connect).stderr


def test_no_secret_rests_in_the_gateway() -> None:
    """Not on its disk, not in its journal, not in the memory that it keeps."""
    forget_secrets("REST_KEY")
    flyte("create", "secret", "REST_KEY", "--value", CANARY)
    kept = [path for path in STATE.rglob("*") if path.is_file()]
    assert kept
    assert [path for path in kept if CANARY.encode() in path.read_bytes()] == []
    journal = subprocess.run(
        ["journalctl", "-u", UNIT, "--no-pager"], capture_output=True, text=True, check=True
    ).stdout
    assert CANARY not in journal
    assert token() not in journal
    assert "Traceback" not in journal
    flyte("delete", "secret", "REST_KEY")


def test_it_ends_when_nobody_asks_and_comes_back() -> None:
    """Idle costs nothing; the next call starts it, and is answered."""
    rpc()
    until(lambda: pid() == 0, 240)
    assert rpc("-H", f"Authorization: Bearer {token()}")[0] == 200
    assert pid() != 0
