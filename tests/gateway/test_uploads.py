"""Uploads: what an address allows, and everything that it does not."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import shutil
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.dataproxy import dataproxy_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration

from flyted.contract.errors import NotFound
from flyted.gateway.files import blobs
from flyted.gateway.files.blobs import BlobKey
from flyted.gateway.files.signing import Signer, Ticket
from flyted.gateway.files.uploads import AT_ONCE
from tests.gateway.clients import HEADERS, ask, service
from tests.gateway.harness import WHO, Running

pytestmark = pytest.mark.slow

DATA = b"code" * 1000
MD5 = hashlib.md5(DATA).digest()
LOCAL = {**HEADERS, "x-flyted-local": "1", "x-flyted-ports": "8443 8080"}
REMOTE = {**HEADERS, "x-flyted-ports": "8443 8080"}


def locate(gateway: Running, headers: dict[str, str] = LOCAL, **fields: Any) -> Any:
    data = service(gateway, "dataproxy.dataproxy_service_connect", "DataProxyService")
    asked = {"project": "p1", "domain": "development", "filename": "fast1.tar.gz", "content_md5": MD5, **fields}
    return ask(data.create_upload_location, pb.CreateUploadLocationRequest(**asked), headers)


def put(gateway: Running, url: str, body: bytes, method: str = "PUT", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    try:
        connection.request(method, urlsplit(url).path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_where_the_content_is_sent(gateway: Running) -> None:
    """To the name that the caller used; unencrypted only on this machine, by the name that means each client's own."""
    at = "flyted.apps.example.org"
    for headers, address in (
        (LOCAL, "http://flyted.localhost:8080"),
        (REMOTE, "https://flyted.localhost:8443"),
        ({**LOCAL, "x-flyted-host": at}, f"https://{at}"),
        ({**REMOTE, "x-flyted-host": f"{at}:444"}, f"https://{at}:444"),
    ):
        assert locate(gateway, headers).signed_url.startswith(f"{address}/upload/"), headers


PLACE = BlobKey("p1", "development", MD5.hex(), "fast1.tar.gz")


def test_what_is_sent_is_found(gateway: Running) -> None:
    """An address leads to a place, and what was PUT there is what is found there."""
    where = locate(gateway)
    assert where.native_url == PLACE.url == f"flyted://p1/development/{MD5.hex()}/fast1.tar.gz"
    assert put(gateway, where.signed_url, DATA, Content_MD5=base64.b64encode(MD5).decode())[0] == 200
    found = gateway.parts.blobs.find(PLACE)
    assert found.path.read_bytes() == DATA
    assert found.sha256 == hashlib.sha256(DATA).hexdigest()


def test_a_local_client_is_led_around_tls(gateway: Running) -> None:
    """The SDK's upload trusts no CA of ours; only a client of this machine may send in the clear."""
    assert locate(gateway, LOCAL).signed_url.startswith("http://flyted.localhost:8080/upload/")
    assert locate(gateway, REMOTE).signed_url.startswith("https://flyted.localhost:8443/upload/")
    usual = {**HEADERS, "x-flyted-local": "1", "x-flyted-ports": "443 80"}
    assert locate(gateway, usual).signed_url.startswith("http://flyted.localhost/upload/")


@pytest.mark.parametrize(
    "wrong",
    [
        {"filename": "../../etc/passwd"},
        {"filename": "a/b"},
        {"filename": ""},
        {"filename": ".."},
        {"filename": "x" * 201},
        {"filename": "a\n"},
        {"project": "Über"},
        {"project": ""},
        {"domain": "../p2"},
        {"content_md5": b""},
        {"content_md5": b"x" * 15},
        {"content_length": blobs.FILE_BYTES + 1},
        {"content_length": -1},
    ],
)
def test_an_address_for_an_impossible_place_is_refused(gateway: Running, wrong: dict[str, Any]) -> None:
    """Names that lead elsewhere, contents without a digest, too much."""
    with pytest.raises(ConnectError) as raised:
        locate(gateway, **wrong)
    assert raised.value.code is Code.INVALID_ARGUMENT


def nothing_kept(gateway: Running) -> bool:
    return list((gateway.state / "blobs").iterdir()) == []


def test_another_content_is_refused_and_not_kept(gateway: Running) -> None:
    """Its MD5 differs: a client error, so that the SDK does not try again, and no trace."""
    status, said = put(gateway, locate(gateway).signed_url, DATA[:-1] + b"X")
    assert (status, "MD5" in said) == (400, True)
    assert nothing_kept(gateway)


@pytest.mark.parametrize("path", ["stored", "/upload/none", "/flyteidl2.auth.IdentityService/UserInfo"])
def test_an_answer_is_not_lost_because_the_body_comes_later(gateway: Running, path: str) -> None:
    """The gateway knows its answer before: the content is stored already, an address is wrong, or a token is missing.

    A connection that it closed at once would be reset by the body.
    """
    if path == "stored":
        url = locate(gateway).signed_url
        assert put(gateway, url, DATA)[0] == 200
        path = urlsplit(url).path
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as client:
        method = "POST" if path.startswith("/flyteidl2") else "PUT"
        client.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(DATA)}\r\n\r\n".encode())
        for part in (DATA[:1000], DATA[1000:]):
            time.sleep(0.2)
            client.sendall(part)
        time.sleep(0.2)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 ")


def test_a_body_that_never_comes_is_not_waited_for(gateway: Running) -> None:
    """The answer is there at once, and its end some seconds later."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as client:
        client.sendall(b"PUT /upload/none HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 403 ")


def test_another_content_can_be_refused_by_its_headers(gateway: Running) -> None:
    """Before a byte of it is read."""
    url = locate(gateway, content_length=len(DATA)).signed_url
    assert put(gateway, url, DATA, Content_MD5=base64.b64encode(b"x" * 16).decode())[0] == 403
    assert put(gateway, url, DATA, Content_MD5="?")[0] == 400
    assert put(gateway, url, DATA + b"x")[0] == 400
    assert nothing_kept(gateway)


def test_a_longer_content_is_cut_off(gateway: Running) -> None:
    """Chunked, without a length: refused when it passes what was announced."""
    url = locate(gateway, content_length=10).signed_url
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    chunk = b"%x\r\n%s\r\n" % (len(DATA), DATA)
    body = chunk * 2 + b"0\r\n\r\n"  # all in one write: the gateway closes before the end
    connection.request("PUT", urlsplit(url).path, body, {"Transfer-Encoding": "chunked"})
    assert connection.getresponse().status == 400
    connection.close()
    assert nothing_kept(gateway)


def test_uploads_that_never_end_are_one_users_own_problem(gateway: Running) -> None:
    """Further ones of that user are told to come again; those of another go through."""
    addresses = [locate(gateway, filename=f"f{number}").signed_url for number in range(AT_ONCE.of_a_user + 1)]
    gateway.flyted.answers("whoami", {"result": {**WHO, "uid": 2000}})
    other = locate(gateway, filename="other").signed_url
    with contextlib.ExitStack() as open_:
        for address in addresses[:-1]:
            connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
            open_.callback(connection.close)
            connection.putrequest("PUT", urlsplit(address).path)
            connection.putheader("Content-Length", str(len(DATA)))
            connection.endheaders(b"code")
        deadline = time.monotonic() + 10
        while (answer := put(gateway, addresses[-1], DATA))[0] != 503 and time.monotonic() < deadline:
            time.sleep(0.05)  # until the gateway has seen all of them
        assert answer == (503, "503: too many uploads at once\n")
        assert put(gateway, other, DATA)[0] == 200
    deadline = time.monotonic() + 10
    while put(gateway, addresses[-1], DATA)[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert put(gateway, addresses[-1], DATA)[0] == 200


def test_an_address_is_over_in_time(gateway: Running) -> None:
    """And says so in the words that the SDK explains."""
    signer = Signer.open(gateway.state / "upload.key")
    old = Ticket("p1", "development", "fast1.tar.gz", MD5.hex(), 1 << 20, int(time.time()) - 1)
    status, said = put(gateway, f"http://x/upload/{signer.sign(old)}", DATA)
    assert (status, "Request has expired" in said) == (403, True)
    assert nothing_kept(gateway)


def test_an_address_lives_as_long_as_asked_and_an_hour_at_most(gateway: Running) -> None:
    """The SDK asks for 900 s; nobody gets a day."""
    now = time.time()
    assert 890 <= locate(gateway, expires_in=Duration(seconds=900)).expires_at.seconds - now <= 901
    assert locate(gateway, expires_in=Duration(seconds=86400)).expires_at.seconds - now <= 3601


def test_a_forged_address_is_refused(gateway: Running) -> None:
    """A changed ticket, another key's, no ticket at all, a path that walks."""
    word = locate(gateway).signed_url.rpartition("/")[2]
    body, _, mac = word.partition(".")
    ticket = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    changed = base64.urlsafe_b64encode(json.dumps({**ticket, "project": "p2"}).encode()).rstrip(b"=").decode()
    other = Signer(b"x" * 32).sign(Ticket(**ticket))
    for bad in (
        f"{changed}.{mac}",
        other,
        f"{body}.",
        body,
        "",
        ".",
        "a.b.c",
        "../../x",
        f"{word}x",
        "%00",
        "%C3%A9.x",
    ):
        assert put(gateway, f"http://x/upload/{bad}", DATA)[0] in (400, 403), bad
    assert nothing_kept(gateway)


def test_sent_again_it_is_answered_and_not_stored_again(gateway: Running) -> None:
    """A client whose answer was lost tries again; somebody who replays it changes nothing."""
    url = locate(gateway).signed_url
    assert put(gateway, url, DATA)[0] == 200
    before = gateway.parts.blobs.find(PLACE).path.stat().st_ino
    assert put(gateway, url, b"something else entirely")[0] == 200
    found = gateway.parts.blobs.find(PLACE).path
    assert (found.stat().st_ino, found.read_bytes()) == (before, DATA)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_address_is_for_put_only(gateway: Running, method: str) -> None:
    """What was sent cannot be had back."""
    url = locate(gateway).signed_url
    put(gateway, url, DATA)
    status, said = put(gateway, url, b"", method)
    assert status == 400
    assert "code" not in said


def test_a_client_that_leaves_in_the_middle_leaves_nothing(gateway: Running) -> None:
    """Half a file is no file."""
    url = locate(gateway).signed_url
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    connection.putrequest("PUT", urlsplit(url).path)
    connection.putheader("Content-Length", str(len(DATA)))
    connection.endheaders()
    connection.send(DATA[:100])
    connection.close()
    deadline, looks = time.monotonic() + 20, 0
    while looks < 20 and time.monotonic() < deadline:  # for a second: at first there is nothing yet
        looks = looks + 1 if nothing_kept(gateway) else 0
        time.sleep(0.05)
    assert looks == 20


def test_what_nobody_used_for_three_days_goes(gateway: Running) -> None:
    """And not a moment earlier, since the client believes in it for a day."""
    put(gateway, locate(gateway).signed_url, DATA)
    now = time.time()
    gateway.parts.blobs.sweep(now + blobs.KEPT_S - 60)
    assert gateway.parts.blobs.has(PLACE)
    gateway.parts.blobs.sweep(now + blobs.KEPT_S + 60)
    with pytest.raises(NotFound):
        gateway.parts.blobs.find(PLACE)


def test_when_there_is_no_room_it_is_said(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """507: the SDK gives up at once, with the text."""
    monkeypatch.setattr(blobs, "FILES", 0)
    status, said = put(gateway, locate(gateway).signed_url, DATA)
    assert (status, "no room" in said) == (507, True)


def test_an_upload_that_cannot_be_stored_says_why(gateway: Running) -> None:
    """Likewise, wherever the disk fails first."""
    url = locate(gateway).signed_url
    shutil.rmtree(gateway.state / "blobs")
    status, said = put(gateway, url, DATA)
    assert (status, "cannot store the upload: No such file" in said) == (507, True)


def test_the_key_survives_a_restart(gateway: Running) -> None:
    """An address that was handed out is good for the next process as well."""
    path = gateway.state / "upload.key"
    assert path.stat().st_mode & 0o777 == 0o600
    ticket = Ticket("p1", "development", "f", MD5.hex(), 1, int(time.time()) + 60)
    assert Signer.open(path).read(Signer.open(path).sign(ticket), time.time()) == ticket


def test_who_may_only_look_gets_no_address(gateway: Running) -> None:
    """A browser's cookie is a token too, with which one reads."""
    gateway.flyted.answers("whoami", {"result": {**WHO, "rights": ["read"]}})
    with pytest.raises(ConnectError) as caught:
        locate(gateway)
    assert caught.value.code is Code.PERMISSION_DENIED
    assert "is read-only" in caught.value.message
