"""Layers of images, made by the units that flyted makes: what a step sees, what is kept of it, and how it ends."""

from __future__ import annotations

import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from flyted.layers import words
from flyted.plan.images.layer_unit import LAYERS
from tests.machine.kit import layers
from tests.machine.kit.layers import (
    BASE,
    bundle,
    copy,
    diff,
    listed,
    make,
    member,
    mounted,
    name,
    shell,
)

pytestmark = pytest.mark.usefixtures("base")

TOKEN = "CANARY-of-a-build"


def owner(path: Path) -> tuple[int, int]:
    """Who owns a file, by the image's numbers."""
    found = path.lstat()
    return found.st_uid - BASE, found.st_gid - BASE


def empty(layer: str) -> None:
    """A layer that changes nothing, as if a step had made it."""
    diff(layer).mkdir(parents=True, exist_ok=True)
    for each in (diff(layer).parent, diff(layer)):
        os.chown(each, BASE, BASE)


def test_a_debian_is_owned_by_nobody_of_the_machine(base: str) -> None:
    """Root of the image is BASE, and other owners are as far above it; nothing of this machine is left in it."""
    owned = {owner(Path(folder, each)) for folder, _, files in os.walk(diff(base)) for each in [".", *files]}
    assert {uid for uid, _ in owned} <= set(range(words.IDS)), owned
    assert {gid for _, gid in owned} <= set(range(words.IDS))
    assert owner(diff(base, "etc/shadow")) == (0, 42)
    assert (Path(LAYERS).stat().st_uid, Path(LAYERS).stat().st_gid, Path(LAYERS).stat().st_mode & 0o777) == (
        BASE,
        0,
        0o750,
    )
    assert listed(diff(base).parent) == [words.DIFF]
    for folder in ("dev", "proc", "run", "sys", "tmp"):
        assert set(listed(diff(base, folder))) <= {"lock"}, folder
    assert not diff(base, "etc/resolv.conf").exists()
    assert diff(base, "etc/apt/apt.conf.d/99mmdebstrap").read_text() == 'Acquire::Languages "none";\n'
    assert f" {layers.SUITE} main" in diff(base, "etc/apt/sources.list").read_text()


def test_packages_of_apt_and_none_of_its_files(base: str) -> None:
    """``apt-get`` works, over the egress of apps; its lists and archives are not kept."""
    script = """
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends jq >/tmp/log 2>&1 || cat /tmp/log
    rm -f /tmp/log
    echo '{"a": 7}' | jq .a
    """
    caches = ["/var/cache/apt", "/var/lib/apt/lists"]
    made = make(name("apt"), [base], shell(script, caches=caches), network=True)
    assert made.ok, made.text
    assert made.lines[-1] == "7"
    assert diff(made.layer, "usr/bin/jq").exists()
    assert owner(diff(made.layer, "usr/bin/jq")) == (0, 0)
    for each in ("var/cache/apt", "var/lib/apt/lists", "run", "dev", "proc", "tmp"):
        assert not diff(made.layer, each).exists() or listed(diff(made.layer, each)) == [], each
    assert listed(diff(made.layer).parent) == [words.DIFF]


def test_what_a_shell_does_to_lower_layers_is_seen_above_them(base: str) -> None:
    """Added to, removed, moved and replaced: in the mount that an app will have, made by real root."""
    first = make(
        name("lower"),
        [base],
        shell("mkdir -p /a/b /c; echo 1 >/a/b/one; echo 2 >/c/two; echo 3 >/three; ln -s a /link; chown 33:34 /three"),
    )
    assert first.ok, first.text
    second = make(
        name("upper"),
        [base, first.layer],
        shell("echo more >>/three; rm /c/two; mv /a /moved; rm -rf /c; mkdir /c; echo new >/c/new; rm /link"),
    )
    assert second.ok, second.text
    third = make(name("top"), [base, first.layer, second.layer], shell("cat /three /moved/b/one; ls /c; test ! -e /a"))
    assert third.lines == ["3", "more", "1", "new"], third.text
    with mounted(base, first.layer, second.layer) as root:
        assert (root / "three").read_text() == "3\nmore\n"
        assert owner(root / "three") == (33, 34)
        assert (root / "moved/b/one").read_text() == "1\n"
        assert not (root / "a").exists()
        assert listed(root / "c") == ["new"]
    with mounted(base, first.layer) as root:
        assert (root / "three").read_text() == "3\n"
        assert (root / "a/b/one").exists()


def test_a_step_sees_the_image_and_our_tools_only(base: str) -> None:
    """Its own /run, name servers, authorities and uv; of the unit no variable but those of the network."""
    made = make(
        name("view"),
        [base],
        shell(
            "id -u; pwd; hostname; echo $(ls /run) $(ls /run/flyted); uv --version; echo $HOME $SOME $PROXY;"
            "test $UV_COMPILE_BYTECODE_TIMEOUT -ge 600;"
            'test -s $SSL_CERT_FILE; test -z "$CREDENTIALS_DIRECTORY$INVOCATION_ID"; grep -c ^name /etc/resolv.conf;'
            "getent hosts localhost | tr -s ' '; echo x >/dev/full || echo full; ls /var/lib/flyted;"
        ),
        env={"SOME": "thing"},
        cwd="/opt/new",
        settings={"environment": {"PROXY": "there"}},
    )
    assert made.lines[:3] == ["0", "/opt/new", "flyted-build"], made.text
    assert made.lines[3].split()[:4] == ["flyted", "apt.conf", "authorities.crt", "bin"], made.text
    assert made.lines[4].startswith("uv 0."), made.text
    assert made.lines[5] == "/root thing there"
    assert int(made.lines[6]) > 0
    assert "localhost" in made.lines[7]
    assert any("/var/lib/flyted" in line and "No such file" in line for line in made.lines), made.text
    assert "exited with status 2" in made.lines[-1]
    assert not diff(made.layer).exists()


def test_files_are_copied_as_a_dockerfile_copies_them(base: str) -> None:
    """The content of a folder, a file under its name or another; owners by name and number; modes and links."""
    folder = bundle(
        [
            member("src", type=tarfile.DIRTYPE, mode=0o755),
            member("src/app.py", b"print('hello')\n", mode=0o755),
            member("src/deep/er.txt", b"deep\n"),
            member("src/link", type=tarfile.SYMTYPE, linkname="app.py"),
            member("src/same", type=tarfile.LNKTYPE, linkname="src/app.py"),
            member("src/a\nline", b"newline\n"),
            member(b"src/\xff\xfe".decode("utf-8", "surrogateescape"), b"not UTF-8\n"),
            member("other", b"other\n"),
        ]
    )
    whole = make(name("copy"), [base], copy(folder, "src", "/home/flyte/src", "www-data:0"))
    assert whole.ok, whole.text
    made = diff(whole.layer, "home/flyte/src")
    assert sorted(map(os.fsencode, listed(made))) == [b"a\nline", b"app.py", b"deep", b"link", b"same", b"\xff\xfe"]
    assert owner(made / "app.py") == owner(made / "link") == owner(made / "deep") == owner(made) == (33, 0)
    assert (made / "app.py").stat().st_mode & 0o777 == 0o755
    assert (made / "link").readlink() == Path("app.py")
    assert (made / "same").stat().st_ino == (made / "app.py").stat().st_ino
    assert (made / "app.py").stat().st_mtime == 0
    for target, where in (("/opt/", "opt/other"), ("/usr", "usr/other"), ("/opt/name", "opt/name")):
        made_one = make(name(f"copy {target}"), [base], copy(folder, "other", target, "7:8"))
        assert made_one.ok, made_one.text
        assert diff(made_one.layer, where).read_text() == "other\n"
        assert owner(diff(made_one.layer, where)) == (7, 8)
    missing = make(name("copy none"), [base], copy(folder, "nothing", "/opt/"))
    assert missing.failure.message == "copy: the build context has no nothing"
    assert not diff(missing.layer).exists()


def test_files_are_shown_to_a_command_and_not_kept(base: str) -> None:
    """``RUN --mount=type=bind``: a file and a folder, which can be written only if that is asked for."""
    folder = bundle([member("pyproject.toml", b"[project]\n"), member("src/app.py", b"app\n")])
    shown = [
        {"folder": folder, "source": "pyproject.toml", "target": "/work/pyproject.toml", "writable": False},
        {"folder": folder, "source": "src", "target": "/work/src", "writable": True},
    ]
    script = """
    cat /work/pyproject.toml /work/src/app.py
    ! echo x 2>/dev/null >>/work/pyproject.toml
    echo more >>/work/src/app.py
    echo cached >/root/.cache/uv/it
    cp /work/src/app.py /kept
    """
    made = make(name("mounts"), [base], shell(script, mounts=shown, caches=["/root/.cache/uv"]))
    assert made.ok, made.text
    assert made.lines == ["[project]", "app"]
    assert diff(made.layer, "kept").read_text() == "app\nmore\n"
    assert listed(diff(made.layer)) == ["kept"]
    assert listed(diff(made.layer).parent) == [words.DIFF]


def test_secrets_reach_the_command_and_nothing_else(base: str, tmp_path: Path) -> None:
    """As a variable and as a file of its user's; what the step prints of them is not passed on."""
    answer = tmp_path / "answer"
    answer.write_text(TOKEN)
    script = """
    echo "$TOKEN" | cut -c1-6 | tr A-Z a-z
    test -s /etc/of/secret
    cat /run/secrets/key | rev; echo; stat -c %U:%a /run/secrets/key
    echo "printed: $TOKEN"; printf '%s' "$TOKEN" | base64; env | grep TOKEN
    """
    secrets = [{"credential": "b0", "env": "TOKEN"}, {"credential": "b1", "file": "/run/secrets/key"}]
    secrets.append({"credential": "b2", "file": "/etc/of/secret"})
    began = time.time()
    made = make(
        name("secret"),
        [base],
        shell(script, secrets=secrets),
        user="www-data",
        credentials=dict.fromkeys(("b0", "b1", "b2"), str(answer)),
    )
    assert made.ok, made.text
    assert made.lines[:3] == ["canary", TOKEN[::-1], "www-data:400"], made.text
    assert made.lines[3:] == ["printed: ***", "***", "TOKEN=***"], made.text
    assert listed(diff(made.layer)) == [], "not even an empty file where a secret was shown"
    found = subprocess.run(["grep", "-r", "-l", "CANARY-of", LAYERS], capture_output=True, text=True, check=False)
    assert found.stdout == ""
    journal = subprocess.run(
        ["journalctl", "--since", f"@{began:.0f}", "-o", "export"], capture_output=True, check=True
    ).stdout
    assert TOKEN.encode() not in journal
    answer.write_text("")
    empty = make(
        name("secret"),
        [base],
        shell(script, secrets=secrets),
        credentials=dict.fromkeys(("b0", "b1", "b2"), str(answer)),
    )
    assert "the secret for TOKEN did not arrive" in empty.failure.message


def test_a_command_runs_as_a_user_of_the_image(base: str) -> None:
    """By name, by number, and by a number that no file of the image has."""
    for user, said in {"www-data": "33 33 /var/www", "33:0": "33 0 /var/www", "1234": "1234 0 /"}.items():
        made = make(name(user), [base], shell("echo $(id -u) $(id -g) $HOME; ! touch /etc/x 2>/dev/null"), user=user)
        assert (made.ok, made.lines) == (True, [said]), made.text
    nobody = make(name("nobody here"), [base], shell("true"), user="nobody-here")
    assert "the image has no user nobody-here" in nobody.failure.message


def test_an_image_of_one_file_is_built_too() -> None:
    """No parents, no libc, no folders: /proc and devices are there while the step runs, and leave nothing behind."""
    first = layers.busybox(name("scratch"))
    assert first.ok, first.text
    step = {**shell(""), "argv": ["/sh", "-c", "ls /proc/self/fd; echo x >/y; cd /etc"]}
    second = make(name("scratch 2"), [first.layer], step)
    assert second.ok, second.text
    assert sorted(listed(diff(second.layer))) == ["y"]
    broken = make(name("scratch 3"), [first.layer], {**step, "argv": ["/nothing"]})
    assert broken.lines[0] == f"{words.OURS}/nothing: No such file or directory"


def test_a_layer_of_a_pulled_image_removes_what_it_says(base: str) -> None:
    """Whiteouts become the kernel's, owners those of the image, a device is left out; a bad blob leaves nothing."""
    digest = bundle(
        [
            member("etc/.wh.hostname"),
            member("etc/.wh.hosts"),
            member("etc/.wh.passwd"),
            member("home/.wh..wh..opq"),
            member("srv/mine", b"mine\n", uid=33, gid=0),
            member("dev/sda", type=tarfile.BLKTYPE),
        ]
    )
    file = layers.blob(digest)
    made = make(name("pulled"), [base], layers.oci(digest))
    assert made.ok, made.text
    assert owner(diff(made.layer, "srv/mine")) == (33, 0)
    with mounted(base, made.layer) as root:
        assert not (root / "etc/passwd").exists()
        assert (root / "etc/group").exists()
    assert listed(diff(made.layer, "dev")) == [] if diff(made.layer, "dev").exists() else True
    file.write_bytes(file.read_bytes()[:100])
    bad = make(name("pulled bad"), [base], layers.oci(digest))
    assert "cannot be unpacked" in bad.failure.message
    assert not diff(bad.layer).exists()
    file.unlink()


def test_many_layers_fit() -> None:
    """Sixty parents: the names of all of them are one page of mount(2)'s."""
    assert layers.busybox(name("n0")).ok
    for number in range(1, 60):
        empty(name(f"n{number}"))
        diff(name(f"n{number}"), f"f{number}").touch()
    script = {**shell(""), "argv": ["/sh", "-c", "set -- /f*; echo $#"]}
    made = make(name("n60"), [name(f"n{n}") for n in range(60)], script)
    assert made.lines == ["59"], made.text
    for number in range(60, 120):
        empty(name(f"n{number}"))
    made = make(name("n120"), [name(f"n{n}") for n in range(120)], script)
    assert "too many layers" in made.failure.message
