"""Images of a registry, through flytectl and the daemon: as they are, with layers, in a Dockerfile, by login."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.registry.manifest import OCI_MANIFEST
from tests.machine.kit import hub as hubs
from tests.machine.kit import pypi_flyte, roots
from tests.machine.kit.hub import HOST, PLATFORM, Hub, page, tar_of
from tests.machine.kit.units import must, sh
from tests.machine.kit.users import Done, alice, answer, by, curl, forget_apps, forget_secrets, give, refused, until
from tests.registry.server import LAYER

ARCH = PLATFORM.partition("/")[2]
NAME = f"{HOST}/team/app"
STATE = Path("/var/lib/flyted")
NGINX = ["nginx", "-g", "daemon off;"]
APP = """
import flyte, flyte.app
from pathlib import Path
env = flyte.app.AppEnvironment(name={name!r}, requires_auth=False, image={image}, {more})
"""
SERVER = """
import subprocess
from fastapi import FastAPI
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.get("/")
def look():
    return {"jq": subprocess.run(["jq", "-n", "6*7"], capture_output=True, text=True).stdout.strip(), "env": GREETING}

import os
GREETING = os.environ.get("GREETING", "")
env = FastAPIAppEnvironment(
    name="based-server", app=app, requires_auth=False,
    image=flyte.Image.from_base("%s:python").clone(name="mine", extendable=True, registry_secret="own-login")
    .with_apt_packages("jq").with_pip_packages("flyte", "fastapi", "uvicorn")
    .with_env_vars({"GREETING": "hello from $BASE"}),
)
"""


BENT: dict[str, list[tuple[str, Any]]] = {
    "proc-file": [("proc", b"x")],
    "run-link": [("var", None), ("var/run", None), ("run", "var/run")],
    "tmp-loop": [("tmp", "tmp")],
    "sys-out": [("sys", "../../../etc/passwd")],
    "hosts-folder": [("etc/hosts", None)],
    "bent": [("var", None), ("var/tmp", "volatile/tmp"), ("tmp", "var/tmp"), ("dev", "/www"),
             ("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")],
}  # fmt: skip
"""What is in an image at places where systemd mounts something; the last one has what does no harm."""


def push(hub: Hub, tag: str, tar: bytes, **run: object) -> str:
    """The digest of an image that is pushed."""
    return str(hub.image(tag, [(tar, LAYER)], ARCH, run=run)["digest"])


@pytest.fixture(scope="module")
def debian() -> Iterator[bytes]:
    """An archive with a Debian: Python and nginx."""
    place = Path("/srv/flyted-test-debian.tar")
    place.unlink(missing_ok=True)
    roots.bootstrap(place, ("python3", "ca-certificates", "nginx-light"))
    yield place.read_bytes()
    place.unlink()


@pytest.fixture(scope="module")
def hub(debian: bytes) -> Iterator[Hub]:
    """The registry with its images, which flyted may ask, with a login."""
    with hubs.serving() as made, hubs.trusted(made):
        words = {"Entrypoint": ["/bin/httpd", "-f"], "Cmd": ["-p", "8080", "-h", "."]}
        for tag in ("page", "own"):
            push(made, tag, page("one"), User="web", WorkingDir="/www", **words)
        more = tar_of(
            ("data", None), ("run", None), ("run/web", None), ("run/web/seed", b"seed\n"),
            ("usr", None), ("usr/local", None), ("usr/local/httpd", None), ("usr/local/httpd/logs", None),
        )  # fmt: skip
        made.image("folders", [(page("x"), LAYER), (more, LAYER)], ARCH)
        push(made, "debian", debian)
        push(made, "python", debian, Env=["PATH=/usr/local/bin:/usr/sbin:/usr/bin", "BASE=debian"])
        push(made, "root", page("x"), Entrypoint=["/bin/gosu", "web"], Cmd=["/bin/httpd", "-f", "-p", "8080"])
        made.image("empty", [], ARCH, run={"Cmd": ["/bin/sh"]})
        for tag, entries in BENT.items():
            made.image(tag, [(page("x"), LAYER), (tar_of(*entries), LAYER)], ARCH)
        for name in ("hub-login", "own-login"):
            alice("flytectl", "secret", "create", name, "-", "--replace", typed=hubs.login())
        yield made
        forget_apps("based-")
        forget_secrets("hub-login", "own-login", "stock-login", "based-word")


def served(name: str, image: str, more: str = "command=[]") -> Done:
    """Serve an app of alice's of this image."""
    text = APP.format(name=f"based-{name}", image=image, more=more)
    return by("alice", "flytectl", "serve", give(f"based/{name.replace('-', '_')}.py", text))


def well(done: Done) -> str:
    """What serving said."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def got(name: str, path: str = "/") -> str:
    """What the app answers."""
    status, body = curl(f"https://based-{name}.apps.localhost{path}")
    assert status == 200, body + sh("journalctl", "-n30", "-o", "cat", "-u", f"flyted-app-based-{name}-r*.service")
    return body.strip()


def digests(name: str) -> dict[str, str]:
    return dict(answer("app", "get", f"based-{name}")["image"]["digests"])


def test_an_images_own_program_runs_by_the_digest_of_its_tag(hub: Hub) -> None:
    """ENTRYPOINT, CMD, WORKDIR; another image under the tag counts at a deploy that changes something."""
    first = hub.ask("GET", "manifests/page", accept=OCI_MANIFEST)[1]
    said = well(served("page", repr(f"{NAME}:page")))
    assert "looking up" in said
    assert "the app can write to /own of its image" in said
    assert got("page") == "one"
    digest = digests("page")[f"{NAME}:page"]
    assert digest == f"sha256:{hashlib.sha256(first).hexdigest()}"
    second = push(hub, "page", page("two"), Entrypoint=["/bin/httpd", "-f"], Cmd=["-p", "8080", "-h", "/www"])
    well(served("page", repr(f"{NAME}:page")))
    assert (got("page"), digests("page")[f"{NAME}:page"]) == ("one", digest)
    alice("flytectl", "secret", "create", "based-word", "-", "--replace", typed="one")
    secret = "secrets=[flyte.Secret(key='based-word', as_env_var='WORD')]"
    well(served("page", repr(f"{NAME}:page"), f"command=[], env_vars={{'A': 'b'}}, {secret}"))
    assert (got("page"), digests("page")[f"{NAME}:page"]) == ("two", second)
    push(hub, "page", page("three"), Entrypoint=["/bin/httpd", "-f"], Cmd=["-p", "8080", "-h", "/www"])
    alice("flytectl", "secret", "create", "based-word", "-", "--replace", "--roll", typed="two")
    assert (got("page"), digests("page")[f"{NAME}:page"]) == ("two", second), "only a deploy asks the registry"
    push(hub, "page", page("two"), Entrypoint=["/bin/httpd", "-f"], Cmd=["-p", "8080", "-h", "/www"])
    well(served("page", repr(f"{NAME}@{digest}")))
    assert got("page") == "one"
    alice("flytectl", "app", "sleep", "based-page")
    assert got("page") == "one"


@pytest.mark.serves("from_ref_name")
def test_args_take_the_place_of_cmd_and_a_command_of_both(hub: Hub) -> None:
    """As on Kubernetes. The folder of its user is writable, and has what the image has there.

    The image by a name of Flyte's config file.
    """
    named = Path("/home/alice", give("config.yaml", f"image:\n  image_refs:\n    mine: {NAME}:own\n"))
    well(served("args", 'flyte.Image.from_ref_name("mine")', "command=[], args=['-p', '8080', '-h', '/own']"))
    named.unlink()
    assert got("args", "/seed") == "seed"
    script = "echo more >/own/more && cat /own/seed /own/more >/tmp/index.html; exec httpd -f -p 8080 -h /tmp"
    well(served("args", repr(f"{NAME}:own"), f"command=['/bin/sh', '-c', {script!r}]"))
    assert got("args").split() == ["seedmore"]


def test_nginx_runs_as_its_package_has_it(hub: Hub) -> None:
    """An image of root's: its program's folders below /var are writable, and that is said."""
    said = well(served("nginx", repr(f"{NAME}:debian"), f"command={NGINX!r}, port=80"))
    assert "/var/lib/nginx" in said
    assert "nginx" in got("nginx").lower()


def test_folders_that_programs_of_root_write_to(hub: Hub) -> None:
    """Outside of /var, too; what cannot be written to is named with what can. /data is the app's own."""
    log = "/usr/local/httpd/logs/log"
    script = f"echo started >{log} && cat /run/web/seed {log} >/data/index.html; exec httpd -f -p 8080 -h /data"
    said = well(served("folders", repr(f"{NAME}:folders"), f"command=['/bin/sh', '-c', {script!r}]"))
    assert "the app can write to /run/web, /usr/local/httpd/logs of its image" in said
    assert got("folders").split() == ["seed", "started"]
    failed = served("folders", repr(f"{NAME}:folders"), "command=['/bin/sh', '-c', 'echo x >/bin/x']")
    assert failed.returncode != 0
    assert "use one of them in place of /bin/x" in failed.stderr
    assert got("folders").split() == ["seed", "started"]


@pytest.mark.serves("from_base", "clone", "with_env_vars")
def test_layers_on_top_with_a_login_of_their_own(hub: Hub) -> None:
    """apt, pip and variables, upon an image that only a login gets; a server function in it."""
    done = by("alice", "flytectl", "serve", give("based/server.py", SERVER % NAME))
    said = well(done)
    assert re.search(r"step \d+/\d+: apt-get install jq", said)
    assert json.loads(got("server")) == {"jq": "42", "env": "hello from debian"}
    password = json.loads(hubs.login())["auths"][HOST]["auth"]
    for canary in (password, "s3cret"):
        assert canary not in said
        assert canary not in sh("journalctl", "-q", "-o", "export", "--since=-10min")
        for folder in ("layers", "roots", "blobs", "bundles"):
            assert sh("grep", "-rlF", canary, str(STATE / folder)) == "", folder


@pytest.mark.serves("from_dockerfile")
def test_a_dockerfile_is_built(hub: Hub) -> None:
    """With its context, a stage to copy from, a user, a volume and its own program."""
    give("based/docker/Dockerfile", f"""FROM {NAME}:python AS build
RUN python3 -c "print('built')" >/built
FROM {NAME}:python
ARG WHO=docker
ENV WHO=$WHO PATH=/opt/bin:$PATH
COPY --from=build /built /srv/www/built
COPY page.html /srv/www/index.html
COPY --chmod=755 run.sh /opt/bin/run
RUN useradd -m -u 1500 app && mkdir /srv/own && chown app /srv/own
VOLUME /srv/data
USER app
WORKDIR /srv/www
EXPOSE 9999
CMD ["run"]
""")  # fmt: skip
    give("based/docker/page.html", "from the context\n")
    give("based/docker/run.sh", "#!/bin/sh\ncat built >/srv/own/x; echo $WHO $(pwd) >/srv/data/x\n"
         "cat /srv/own/x /srv/data/x >/tmp/x; exec python3 -m http.server 8080\n")  # fmt: skip
    image = 'flyte.Image.from_dockerfile(Path(__file__).parent / "docker/Dockerfile", registry="r", name="n")'
    said = well(served("docker", image))
    assert "the app can write to /srv/data, /home/app, /srv/own of its image" in said
    assert got("docker") == "from the context"
    assert got("docker", "/built") == "built"
    give("based/docker/Dockerfile", f"FROM {NAME}:python\nRUN --security=insecure true\n")
    done = served("docker", image)
    assert done.returncode == 2, done.stderr
    assert "Dockerfile:2: RUN: --security=" in done.stderr
    assert got("docker") == "from the context"


def test_links_where_systemd_mounts_something(hub: Hub) -> None:
    """To folders of the image, or to nothing, as in images of small systems: the app runs."""
    script = "echo hello >/tmp/index.html; exec /bin/httpd -f -p 8080 -h /tmp"
    well(served("bent", repr(f"{NAME}:bent"), f"command=['/bin/sh', '-c', {script!r}]"))
    assert got("bent", "/index.html") == "hello"


@pytest.mark.parametrize(
    ("tag", "more", "said", "hint"),
    [
        ("root", "command=[]", "gosu, which needs root", "command=[...]"),
        ("none", "command=[]", "does not have team/app", "check the name"),
        ("page", "", "there is nothing to run", "command=[]"),
        ("debian", "command=[]", "names no program", "command=[...]"),
        ("empty", "command=['/bin/sh']", "is empty: it has no layers", "with a program in it"),
        ("proc-file", "command=['/bin/sh']", "/proc in it is a file", "another image"),
        ("run-link", "command=['/bin/sh']", "/run in it is a file or a link", "another image"),
        ("tmp-loop", "command=['/bin/sh']", "/tmp in it is a link without end", "another image"),
        ("sys-out", "command=['/bin/sh']", "/sys in it is a file or a link", "another image"),
        ("hosts-folder", "command=['/bin/sh']", "/etc/hosts in it is a folder", "another image"),
    ],
)
def test_what_cannot_run_is_said_at_serve(hub: Hub, tag: str, more: str, said: str, hint: str) -> None:
    """By what the image's config says; no app is there afterwards."""
    done = served(f"bad-{tag}", repr(f"{NAME}:{tag}"), more)
    assert done.returncode != 0
    assert said in done.stderr.replace("'", ""), done.stderr
    assert hint in done.stderr
    assert by("alice", "flytectl", "app", "get", f"based-bad-{tag}").returncode == 4


def test_a_server_function_needs_a_python(hub: Hub) -> None:
    """Which a web server's image does not have."""
    text = APP.format(name="based-function", image=repr(f"{NAME}:page"), more="")
    said = refused("flytectl", "serve", give("based/function.py", f"{text}@env.server\ndef serve(): ...\n"), status=2)
    assert "has no Python 3.10 or newer" in said
    assert "command=[]" in said
    assert by("alice", "flytectl", "app", "get", "based-function").returncode == 4


def test_a_wrong_or_missing_login_is_said(hub: Hub) -> None:
    """Also while another one of the same image's pull is right: nobody gets an image by somebody else's."""
    alice("flytectl", "secret", "create", "wrong-login", "-", "--replace", typed=hubs.login("other"))
    try:
        image = f'flyte.Image.from_base("{NAME}:page").clone(name="n", registry_secret="wrong-login").clone()'
        done = served("login", image)
        assert done.returncode != 0
        assert "refuses the login" in done.stderr
        assert "docker login" in done.stderr
        done = served("login", image.replace("wrong-login", "no-login"))
        assert "secret 'no-login'" in done.stderr, done.stderr
    finally:
        forget_secrets("wrong-login")


STOCK = """
import flyte, flyte.app
plain = flyte.app.AppEnvironment(
    name="based-stock", requires_auth=False, command=["/bin/httpd", "-f", "-p", "8080", "-h", "/www"],
    image="%(name)s:page")
layered = flyte.app.AppEnvironment(
    name="based-layered", requires_auth=False, command=["python3", "-m", "http.server", "8080", "-d", "/srv/made"],
    image=flyte.Image.from_base("%(name)s:python").clone(name="mine", extendable=True, registry_secret="stock-login")
    .with_commands(["mkdir /srv/made && echo by flyte >/srv/made/index.html"]))
"""


@pytest.mark.usefixtures("pypi_flyte")
def test_the_stock_client_deploys_them(hub: Hub) -> None:
    """By the gateway, which gets the secret of the registry among those of the layers; Flyte's command makes it."""
    forget_secrets("stock-login")
    login = ("--registry", HOST, "--username", "alice", "--password", "s3cret")
    pypi_flyte.flyte("create", "secret", "stock-login", "--type", "image_pull", *login)
    target = pypi_flyte.FOLDER / "stock_bases.py"
    target.write_text(STOCK % {"name": NAME})
    pypi_flyte.flyte("deploy", "stock_bases.py", "plain")
    pypi_flyte.flyte("deploy", "stock_bases.py", "layered")
    for name, text in (("stock", "two"), ("layered", "by flyte")):
        until(lambda name=name: answer("app", "get", f"based-{name}")["state"] in ("running", "sleeping"), 120)  # type: ignore[misc]
        assert got(name) == text


def test_no_pull_is_left(hub: Hub) -> None:
    """Neither a unit nor a grant of its secrets."""
    assert sh("systemctl", "list-units", "--all", "--no-legend", "flyted-pull-*", "flyted-layer-*") == ""
    must("systemctl", "is-active", "flyted.service")
