"""Dockerfiles, planned and made as flyted does it: stages, copies, archives, mounts, folders, owners."""

from __future__ import annotations

import dataclasses
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from flyted.layers import words
from flyted.plan.images.dockerfile import recipe_of_dockerfile
from flyted.plan.images.layer_unit import LAYERS
from flyted.plan.images.root import OciBase, RootPlan
from tests.machine.kit import layers
from tests.machine.kit.layers import bundle, diff, listed, made_by, make, member, mounted, name, planned, shell
from tests.machine.test_layers import owner

pytestmark = pytest.mark.usefixtures("base")


def docker(text: str, *context: tuple[tarfile.TarInfo, bytes]) -> RootPlan:
    """The plan of a Dockerfile; the image that it names as "base" is :func:`base`."""
    recipe = recipe_of_dockerfile(text, "Dockerfile", {".": bundle(context)}, os.uname().machine)
    stages = [
        dataclasses.replace(stage, base=layers.DEBIAN) if stage.base == OciBase("base") else stage
        for stage in recipe.stages
    ]
    return planned(dataclasses.replace(recipe, stages=tuple(stages)))


def build(plan: RootPlan, **secrets: str) -> None:
    """Make the layers of a plan that are not there."""
    for job in plan.jobs:
        if job.id != layers.BASE_JOB.id:
            files = {credential: secrets[secret.key] for credential, secret in job.secrets}
            made_by(job, credentials=files or None)


def packed(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """An archive, compressed by xz."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_dockerfile_of_two_stages(base: str, tmp_path: Path) -> None:
    """What one stage made and the next one takes, mounts of every kind, an archive, owners by name, a WORKDIR."""
    token = tmp_path / "token"
    token.write_text("CANARY-of-a-dockerfile")
    plan = docker(
        """
        FROM base AS build
        WORKDIR /src
        RUN --mount=type=bind,source=tool.sh,target=tool.sh --mount=type=cache,target=/root/.cache \\
            --mount=type=secret,id=token,target=/run/secrets/it --mount=type=tmpfs,target=/mem \\
            mkdir -p bin lib && sh tool.sh >bin/tool && chmod 751 bin/tool && cp bin/tool lib/a.so && \\
            touch lib/b.so lib/no.txt && ln -s /src/bin current && chown -R 33:34 lib && \\
            touch /root/.cache/x /mem/x && stat -f -c %T /mem >bin/kind && wc -c </run/secrets/it >bin/length
        FROM base
        COPY --from=build /src/current /opt/bin/
        COPY --from=build /src/lib/*.so /opt/lib/
        COPY --from=build --chown=www-data --chmod=0750 /src/bin/tool /opt/own
        ADD data.tar.xz plain.txt /data/
        RUN --mount=from=build,source=/src/current,target=/mnt/bin --mount=from=build,source=/src,target=/s,rw \\
            cp /mnt/bin/tool /seen && ! touch /mnt/bin/x 2>/dev/null && echo more >>/s/bin/tool && rm -r /s/lib && \\
            cat /s/bin/tool >/changed
        USER www-data
        WORKDIR /home/made/here
        RUN id -un >who && pwd >>who
        """,
        member("tool.sh", b"echo made\n"),
        member(
            "data.tar.xz", packed(member("a/b", b"b", uid=7, gid=8), member("l", type=tarfile.SYMTYPE, linkname="/"))
        ),
        member("plain.txt", b"plain\n"),
    )
    build(plan, token=str(token))
    with mounted(*plan.layers) as root:
        assert {each: (root / "opt/bin" / each).read_text() for each in listed(root / "opt/bin")} == {
            "tool": "made\n", "kind": "tmpfs\n", "length": "22\n",
        }  # fmt: skip
        assert mode(root / "opt/bin/tool") == 0o751
        assert listed(root / "opt/lib") == ["a.so", "b.so"]
        assert owner(root / "opt/lib/a.so") == (33, 34)
        assert (owner(root / "opt/own"), mode(root / "opt/own")) == ((33, 33), 0o750)
        assert (root / "data/a/b").read_text() == "b"
        assert owner(root / "data/a/b") == (7, 8)
        assert (root / "data/l").readlink() == Path("/")
        assert (owner(root / "data/plain.txt"), owner(root / "data")) == ((0, 0), (0, 0))
        assert ((root / "seen").read_text(), (root / "changed").read_text()) == ("made\n", "made\nmore\n")
        assert (root / "home/made/here/who").read_text() == "www-data\n/home/made/here\n"
        assert owner(root / "home/made") == owner(root / "home/made/here") == (33, 33)
    (ran,) = [job.id for job in plan.jobs if "cp /mnt/bin/tool" in job.job["step"].get("show", "")]
    assert listed(diff(ran)) == ["changed", "seen"]
    first = plan.jobs[2].id
    assert listed(diff(first)) == ["src"]
    assert listed(diff(first, "src")) == ["bin", "current", "lib"]
    assert all(listed(diff(job.id).parent) == [words.DIFF] for job in plan.jobs)
    with mounted(*plan.layers) as root:
        assert not list(root.glob("**/CANARY*"))


def test_a_stage_of_nothing_and_one_that_is_not_there(base: str) -> None:
    """Copies of an empty stage fail in one line; a layer that is not there is named."""
    step = {"kind": "copy", "from": [], "source": "x", "target": "/x", "owner": ""}
    made = make(name("from nothing"), [base], step)
    assert made.failure.message == "copy: the other stage has no x"
    whole = make(name("from nothing, all"), [base], {**step, "source": "."})
    assert whole.ok, whole.text
    assert listed(diff(whole.layer)) == ["x"]
    gone = make(name("from gone"), [base], {**step, "from": ["0" * 32]})
    assert "layer 00000000000000000000000000000000, which this one needs, is missing" in gone.failure.message


def test_apps_can_come_to_their_folder(base: str) -> None:
    """A WORKDIR that the image has closed, and root's folder; nothing of it is given to somebody else."""
    assert mode(diff(base, "root")) == 0o755
    plan = docker(
        "FROM base\nRUN useradd -m me && mkdir -m 700 /home/me/in && touch /home/me/in/x\nWORKDIR /home/me/in\n"
    )
    build(plan)
    with mounted(*plan.layers) as root:
        assert mode(root / "home/me") & 0o011 == 0o011
        assert mode(root / "home/me/in") == 0o755
        assert owner(root / "home/me")[0] >= 1000
        assert owner(root / "home/me/in") == owner(root / "home/me/in/x") == (0, 0)
    for bad in ("/etc/passwd", "/etc/passwd/x"):
        step = {"kind": "folder", "target": bad, "owner": "0:0"}
        assert "cannot be a folder: the image has a file" in make(name(bad), [base], step).failure.message
    closed = layers.oci(
        bundle([member("root", type=tarfile.DIRTYPE, mode=0o700), member("root/.x", b"x", mode=0o600)])
    )
    layers.blob(closed["blob"].partition(":")[2])
    pulled = make(name("closed"), [], closed)
    assert pulled.ok, pulled.text
    assert (mode(diff(pulled.layer, "root")), mode(diff(pulled.layer, "root/.x"))) == (0o755, 0o600)


OWNERS = {
    "root:x:0:0::/:\nzero:x:0:0::/:\n1000:x:0:0::/:\nbig:x:65536:0::/:\nminus:x:-1:0::/:\nwords:x:a:b::/:\nme:x:7:8::/:\n"
    "me:x:0:0::/:\n\nshort:x\nme2:x:9:65536::/:\n": {
        "1000": (1000, 1000), "1000:1000": (1000, 1000), "me": (7, 8), "me:0": (7, 0), "0": (0, 0),
        "big": "numbers below 65536, not 65536", "minus": "not -1", "words": "not a", "short": "has no user short",
        "65536": "not 65536", "99999999999999999999": "numbers below 65536", "me2": "not 65536",
        "me:nobody": "has no group nobody", "..": "has no user ..",
    },
}  # fmt: skip


@pytest.mark.once
def test_names_of_owners_are_the_images_own(base: str) -> None:
    """Its list of users is a stranger's text, also a link or a pipe; numbers are numbers whatever it says."""
    folder = bundle([member("f", b"x")])
    for passwd, owners in OWNERS.items():
        lists = make(name("lists"), [base], layers.copy(bundle([member("passwd", passwd.encode())]), ".", "/etc"))
        assert lists.ok, lists.text
        for each, found in owners.items():
            made = make(name(f"owner {each}"), [base, lists.layer], layers.copy(folder, "f", "/f", each))
            if isinstance(found, str):
                assert found in made.failure.message, made.text
            else:
                assert made.ok, made.text
                assert owner(diff(made.layer, "f")) == found, each
    links = make(
        name("linked"), [base], shell("ln -sf /proc/1/root/etc/passwd /etc/passwd; rm /etc/group; mkfifo /etc/group")
    )
    assert links.ok, links.text
    made = make(name("owner linked"), [base, links.layer], layers.copy(folder, "f", "/f", "root:x"))
    assert "has no group x" in made.failure.message


HOSTILE = {
    "a link to the machine": "ln -s /../../../etc/shadow x; ln -s /var/lib/flyted y",
    "a link through /proc": "ln -s /proc/self/root/etc x; ln -s /proc/1/cwd y",
    "links in a circle": "ln -s y x; ln -s x y",
    "a folder for everybody": "mkdir -m 777 x; ln -s ../../../../run/flyted y",
    "a pipe": "mkfifo x y",
    "a deep tree": "mkdir x y; cd x; for n in $(seq 600); do mkdir d; cd d; done",
    "names": "mkdir x; touch 'x/a\nb' 'x/..\n' 'x/-rf' \"$(printf 'x/\\377')\"; ln -s x y",
}


@pytest.mark.once
@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_stage_stays_a_stage(base: str, how: str) -> None:
    """Copied by name, by a pattern and on the way, or mounted: one line, or what the stage itself has."""
    stage = make(name(f"stage {how}"), [base], shell(f"mkdir /h; cd /h; {HOSTILE[how]}"))
    assert stage.ok, stage.text
    before = listed("/var/lib/flyted"), listed("/etc"), listed("/"), listed(LAYERS)
    come = [base, stage.layer]
    for source, glob in (("h/x", False), ("h/y", False), ("h/*", True), ("h/x/*/..*", True), ("h/y/secrets", False)):
        step = {"kind": "copy", "from": come, "source": source, "target": "/to/", "owner": "", "glob": glob}
        made = make(name(f"{how} {source}"), [base], step)
        assert made.ok or made.lines[-1].startswith(words.OURS), made.text
        assert "Traceback" not in made.text
        if made.ok:
            assert not diff(made.layer, "to/shadow").exists()
            assert not diff(made.layer, "to/secrets").exists()
    for source, writable in (("h/x", True), ("h/y", False), ("h", True)):
        mount = {"from": come, "source": source, "target": "/mnt/it", "writable": writable}
        made = make(name(f"{how} mounted {source}"), [base], shell("ls -R /mnt/it | head -3", mounts=[mount]))
        assert made.ok or made.lines[-1].startswith(words.OURS), made.text
        assert "Traceback" not in made.text
    assert {*listed(LAYERS)} - {*before[3]} <= {
        name(f"{how} {each}")
        for each in ("h/x", "h/y", "h/*", "h/x/*/..*", "h/y/secrets", "mounted h/x", "mounted h/y", "mounted h")
    }
    assert (listed("/var/lib/flyted"), listed("/etc"), listed("/")) == before[:3]


@pytest.mark.once
def test_a_bomb_in_an_archive_of_add_is_killed(base: str) -> None:
    """A gigabyte of zeros, twice compressed: kept on the disk while it is looked at, and counted there."""
    zeros = packed(member("zeros", bytes(200 << 20)))
    step = {"kind": "copy", "folder": bundle([member("z.tar.xz", zeros)]), "source": ".", "target": "/z/", "owner": ""}
    made = make(
        name("added"), [base], {**step, "source": "z.tar.xz", "unpack": True}, settings={"layer_bytes": 60 << 20}
    )
    assert "it wrote more than 60 MB" in made.failure.message, made.text
    assert not diff(made.layer).exists()
