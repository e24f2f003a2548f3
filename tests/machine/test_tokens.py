"""An app that says nothing of `requires_auth` (Flyte's default): who gets in, who wakes it, and what ends it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from flyted.contract.errors import PermissionRefused, Unauthenticated
from tests.machine.kit.programs import unit
from tests.machine.kit.tokens import APP, SOURCE, api, guarded_app, named, token, visit
from tests.machine.kit.units import must
from tests.machine.kit.users import alice, answer, by, curl, give, refused, serve, until


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where the app answers."""
    with guarded_app() as url:
        yield url


def asleep() -> bool:
    """Whether the app's service does not run."""
    return bool(answer("app", "get", APP)["state"] == "sleeping")


def test_only_who_has_a_token_gets_in(url: str) -> None:
    """And the app learns who it is, not by what."""
    assert answer("app", "get", APP)["requires_auth"] is True
    assert visit(url)[0] == 401
    status, body = visit(url, token())
    assert status == 200
    seen = json.loads(body)
    assert "x-flyte-user: alice" in seen
    assert not any(line.startswith(("authorization:", "cookie:")) for line in seen)


def test_strangers_do_not_wake_it(url: str) -> None:
    """Twenty requests without a token, a wrong one, or a browser's: it sleeps on. One with a token wakes it."""
    alice("flytectl", "app", "sleep", APP)
    until(asleep)
    wrong = "flyted_" + "A" * 43
    for _ in range(5):
        assert visit(url)[0] == 401
        assert visit(url, wrong)[0] == 401
        assert visit(url, cookie=f"__Host-flyted={wrong}")[0] == 401
        assert visit(url, "", "-H", "Accept: text/html")[0] == 302
    assert asleep()
    units = subprocess.run(
        ["systemctl", "show", unit(APP), "--property=ActiveState,SubState"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "ActiveState=inactive" in units
    assert visit(url, token())[0] == 200
    assert not asleep()


def test_a_token_with_a_name_is_listed_and_revoked(url: str) -> None:
    """It bites at once."""
    made = named("ci", "--expires", "1h", "--app", APP)
    assert visit(url, made)[0] == 200
    (listed,) = answer("token", "ls")["tokens"]
    assert (listed["name"], listed["app"], listed["user"]) == ("ci", APP, "alice")
    alice("flytectl", "token", "revoke", "ci")
    assert visit(url, made)[0] == 401
    assert "hint: flytectl token ls" in refused("flytectl", "token", "revoke", "ci", status=4)


def test_a_token_ends_by_itself(url: str) -> None:
    """To the second."""
    made = named("short", "--expires", "12s", "--app", APP)
    assert visit(url, made)[0] == 200
    until(lambda: visit(url, made)[0] == 401)


def test_who_is_no_member_gets_no_token() -> None:
    """Nor a link to log in with."""
    for words in (["token"], ["token", "create", "--name", "x"], ["token", "ls"], ["login"]):
        assert "only members of group 'flyted'" in refused("flytectl", *words, status=6, user="mallory")


def test_the_api_socket_is_the_gateways_alone() -> None:
    """Whoever may open it still needs a token; alice, a member of flyted, may not even open it."""
    code = "from flyted.contract import client; print(client.call('version', path=client.API_SOCKET))"
    for user in ("alice", "mallory"):
        done = by(user, "env", "PYTHONPATH=/usr/lib/flyted", "python3", "-c", code)
        assert done.returncode != 0
        assert "PermissionRefused" in done.stderr
    assert api("version")["version"]
    for bad in ("", "flyted_" + "A" * 43):
        with pytest.raises(Unauthenticated):
            api("app.list", bad, project="", domain="")


def test_a_token_speaks_for_its_owner() -> None:
    """Through the api socket: alice's rights, none of root's."""
    mine = token()
    assert api("whoami", mine)["user"] == "alice"
    assert any(app["name"] == APP for app in api("app.list", mine, project="", domain="")["apps"])
    with pytest.raises(PermissionRefused):
        api("secret.accept-rollback", mine)
    roots = subprocess.run(["flytectl", "token"], capture_output=True, text=True, check=True).stdout.strip()
    assert api("whoami", roots)["user"] == "root"
    with pytest.raises(PermissionRefused):
        api("secret.accept-rollback", roots)


def test_a_killed_ingress_and_a_killed_daemon_forget_nothing(url: str) -> None:
    """Tokens count after SIGKILL of either, and what was revoked stays revoked."""
    kept, ended = named("kept"), named("ended")
    alice("flytectl", "token", "revoke", "ended")
    must("systemctl", "kill", "--signal=KILL", "flyted-ingress.service")
    until(lambda: _answers(url, kept) == 200, 60)
    assert visit(url, ended)[0] == 401
    must("systemctl", "kill", "--signal=KILL", "flyted.service")
    assert visit(url, kept)[0] == 200, "no code of ours is in the way"
    until(lambda: by("alice", "flytectl", "app", "ls").returncode == 0, 60)
    assert (visit(url, kept)[0], visit(url, ended)[0]) == (200, 401)
    assert api("whoami", kept)["user"] == "alice"
    alice("flytectl", "token", "revoke", "kept")
    assert visit(url, kept)[0] == 401


def _answers(url: str, token: str) -> int:
    done = by("alice", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "@-", url,
              typed=f"Authorization: Bearer {token}\n")  # fmt: skip
    return int(done.stdout or 0)


def test_a_token_made_while_the_ingress_is_down_counts_after(url: str) -> None:
    """And making it does not start an ingress that somebody has stopped (its socket too, which would start it)."""
    must("systemctl", "stop", "flyted-ingress.socket", "flyted-ingress.service")
    made = token()
    state = subprocess.run(["systemctl", "is-active", "flyted-ingress"], capture_output=True, text=True, check=False)
    assert state.stdout.strip() == "inactive"
    must(
        "systemctl", "--no-block", "start", "flyted-ingress.service"
    )  # the daemon has to make its socket anew meanwhile
    until(lambda: _answers(url, made) == 200, 60)


def test_who_leaves_the_group_is_out(url: str) -> None:
    """At the api at once, at the ingress within a minute; and is in again with the group."""
    made = named("leaver")
    subprocess.run(["gpasswd", "--delete", "alice", "flyted"], check=True, capture_output=True)
    try:
        with pytest.raises(Unauthenticated):
            api("whoami", made)
        until(lambda: _answers(url, made) == 401, 150)
    finally:
        subprocess.run(["gpasswd", "--add", "alice", "flyted"], check=True, capture_output=True)
    assert api("whoami", made)["user"] == "alice"
    token()  # any change has the ingress told
    assert visit(url, made)[0] == 200
    alice("flytectl", "token", "revoke", "leaver")


def test_no_token_is_written_anywhere(url: str) -> None:
    """Not on disk, not in the journal, not on D-Bus, not in a process's arguments: but its digest is, in one place."""
    made = named("canary")
    link = alice("flytectl", "login").stdout.strip()
    code = parse_qs(urlsplit(link).query)["code"][0]
    cookie = api("login.redeem", code=code, app_id="")["token"]
    assert visit(url, made)[0] == 200
    assert visit(f"{url}/?token={made}", "")[0] == 401
    assert visit(url, made + "x")[0] == 401
    journal = subprocess.run(["journalctl", "-b", "-o", "json", "--all"], capture_output=True, check=True).stdout
    shown = subprocess.run(["systemctl", "show", "flyted*", "--all"], capture_output=True, check=True).stdout
    arguments = b"".join(_bytes(p) for p in Path("/proc").glob("[0-9]*/cmdline"))
    files = b"".join(
        _bytes(p) for top in ("/var/lib/flyted", "/run/flyted", "/etc/flyted") for p in Path(top).rglob("*")
        if p.is_file() and "images" not in p.parts
    )  # fmt: skip
    for secret in (made, code, cookie):
        for place in (journal, shown, arguments, files):
            assert secret.encode() not in place
    from flyted.contract.token import digest

    assert digest(made).encode() in files, "the search would find something"
    alice("flytectl", "token", "revoke", "canary")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_the_table_is_for_haproxy_to_read() -> None:
    """Its group, and nobody else."""
    file = Path("/run/flyted/ingress/tokens.map")
    assert (file.stat().st_mode & 0o777, file.group()) == (0o640, "haproxy")
    assert by("mallory", "cat", str(file)).returncode != 0


def test_the_door_opens_and_closes_with_a_deploy(url: str) -> None:
    """`requires_auth=False` in the next revision opens it; back again closes it."""
    open_ = (SOURCE % APP).replace("app=app,", "app=app, requires_auth=False,")
    serve(give("guarded.py", open_))
    assert curl(url)[0] == 200
    serve(give("guarded.py", SOURCE % APP))
    assert curl(url)[0] == 401


def test_tokens_cost_little(url: str) -> None:
    """A token takes well below a second, so that a script may ask for one each time."""
    began = time.monotonic()
    for _ in range(3):
        token()
    assert (time.monotonic() - began) / 3 < 5


def test_the_day_of_a_tokens_last_use_at_an_app(url: str) -> None:
    """The ingress knows it, without a word to flyted; a token that was not used has none."""
    today = time.strftime("%Y-%m-%dT00:00:00.000000Z", time.gmtime())
    used, unused = named("used-ci"), named("unused-ci")
    assert used != unused
    assert visit(url, used)[0] == 200
    days = {each["name"]: each["used_at"] for each in answer("token", "ls")["tokens"]}
    assert (days["used-ci"], days["unused-ci"]) == (today, None)
    subprocess.run(["systemctl", "restart", "flyted-ingress"], check=True)
    days = {each["name"]: each["used_at"] for each in answer("token", "ls")["tokens"]}
    assert (days["used-ci"], days["unused-ci"]) == (today, None)
    alice("flytectl", "token", "revoke", "used-ci", "unused-ci")
