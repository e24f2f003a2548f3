"""What a job may be: each part is checked before a step begins."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flyted.layers.failed import Failed
from flyted.layers.job import Copy, Debian, Folder, Job, Mount, Oci, Origin, Run, Secret, parse
from flyted.layers.words import EX_CONFIG

LAYER, PARENT, FOLDER = "0123456789abcdef" * 2, "f" * 32, "a" * 64
RUN: dict[str, Any] = {
    "kind": "run",
    "argv": ["/bin/sh", "-c", "true"],
    "show": "true",
    "mounts": [
        {"folder": FOLDER, "source": "./a//b", "target": "/x/./y", "writable": True},
        {"from": [PARENT, LAYER], "source": ".", "target": "/z", "writable": False},
        {"text": "six\n", "target": "/r.txt", "writable": False},
    ],
    "caches": ["/root/.cache"],
    "secrets": [{"credential": "b0", "env": "TOKEN"}, {"credential": "b1", "file": "/run/secrets/x"}],
}
COPY: dict[str, Any] = {"kind": "copy", "folder": FOLDER, "source": ".", "target": "/opt/", "owner": "0:0"}
STAGE: dict[str, Any] = {"kind": "copy", "from": [PARENT], "source": "a/*", "target": "/x", "owner": "", "glob": True}
ADD: dict[str, Any] = {**COPY, "owner": "", "mode": "0755", "unpack": True}
WORKDIR = {"kind": "folder", "target": "/srv//app", "owner": "www-data:0"}
OCI = {"kind": "oci", "blob": f"sha256:{'b' * 64}", "media": "a type"}
DEBIAN: dict[str, Any] = {
    "kind": "debian",
    "suite": "trixie",
    "packages": ["ca-certificates", "g++:amd64", "jq=1.7~x"],
}


def text(step: dict[str, Any], **changes: Any) -> bytes:
    """A job, as the daemon writes it."""
    parents = [] if step["kind"] == "debian" else [PARENT]
    job = {
        "format": 1,
        "layer": LAYER,
        "parents": parents,
        "env": {"A": "b"},
        "cwd": "/w//x",
        "user": "a:0",
        "step": step,
    }
    return json.dumps({**job, **changes}).encode()


def test_a_command() -> None:
    """Paths are made plain; a secret is a variable or a file."""
    step = Run(
        ("/bin/sh", "-c", "true"),
        "true",
        (
            Mount(Origin(FOLDER), "a/b", "/x/y", writable=True),
            Mount(Origin("", (PARENT, LAYER)), ".", "/z", writable=False),
            Mount(None, "", "/r.txt", writable=False, text="six\n"),
        ),
        ("/root/.cache",),
        (Secret("b0", "TOKEN", ""), Secret("b1", "", "/run/secrets/x")),
        ("/t",),
    )
    job = parse(text({**RUN, "tmpfs": ["/t"]}))
    assert job == Job(LAYER, (PARENT,), {"A": "b"}, "/w/x", "a:0", step)
    assert (job.folders, job.stages, job.secrets) == ((FOLDER,), (PARENT, LAYER), step.secrets)


def test_a_copy_a_debian_and_a_pulled_layer() -> None:
    """The slash at a target's end has a meaning and stays."""
    copy, debian = parse(text(COPY)), parse(text(DEBIAN))
    assert (copy.step, copy.folders, copy.secrets) == (Copy(Origin(FOLDER), ".", "/opt/", "0:0"), (FOLDER,), ())
    assert parse(text(OCI)).step == Oci("b" * 64, "a type")
    assert (debian.step, debian.folders) == (Debian("trixie", tuple(DEBIAN["packages"])), ())


def test_a_copy_of_a_stage_an_archive_and_a_folder() -> None:
    """Files of a stage and of an archive may keep their owners."""
    assert parse(text(STAGE)).step == Copy(Origin("", (PARENT,)), "a/*", "/x", "", glob=True)
    assert (parse(text(STAGE)).folders, parse(text(STAGE)).stages) == ((), (PARENT,))
    assert parse(text({**STAGE, "from": []})).step == Copy(Origin(""), "a/*", "/x", "", glob=True)
    assert parse(text(ADD)).step == Copy(Origin(FOLDER), ".", "/opt/", "", mode=0o755, unpack=True)
    assert parse(text(WORKDIR)).step == Folder("/srv/app", "www-data:0")


@pytest.mark.parametrize("step", [RUN, COPY, STAGE, ADD, WORKDIR, OCI, DEBIAN])
def test_no_key_is_ignored(step: dict[str, Any]) -> None:
    """Of a job, of its step, and of what is in it."""
    inner = [{**step, key: [{**value[0], "more": 1}]} for key, value in step.items() if key in ("mounts", "secrets")]
    for bad in (text({**step, "more": 1}), text(step, more=1), *map(text, inner)):
        with pytest.raises(Failed, match="unknown key more"):
            parse(bad)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        text(RUN, format=2),
        text(RUN, layer="../../etc"),
        text(RUN, parents=["x"]),
        text(RUN, parents="f" * 32),
        text(RUN, env={"A=B": "c"}),
        text(RUN, env={"A": "b\0c"}),
        text(RUN, env={"A": 1}),
        text(RUN, cwd="relative"),
        text(RUN, cwd="/a/../b"),
        text(RUN, user="root\n"),
        text(RUN, user="--help:"),
        text({**RUN, "kind": "other"}),
        text({"kind": "oci", "blob": "md5:x", "media": ""}),
        text({**RUN, "argv": []}),
        text({**RUN, "argv": [""]}),
        text({**RUN, "argv": "/bin/sh"}),
        text({**RUN, "show": "\ud800"}),
        text({**RUN, "caches": ["x"]}),
        text({**RUN, "mounts": [{**RUN["mounts"][0], "source": "../x"}]}),
        text({**RUN, "mounts": [{**RUN["mounts"][0], "source": "/x"}]}),
        text({**RUN, "mounts": [{**RUN["mounts"][0], "folder": "x"}]}),
        text({**RUN, "mounts": [{**RUN["mounts"][0], "writable": "no"}]}),
        text({**RUN, "secrets": [{"credential": "../x", "env": "A"}]}),
        text({**RUN, "secrets": [{"credential": "b0"}]}),
        text({**RUN, "secrets": [{"credential": "b0", "env": "A", "file": "/b"}]}),
        text({**RUN, "mounts": [{**RUN["mounts"][0], "from": [PARENT]}]}),
        text({**RUN, "mounts": [{**RUN["mounts"][1], "from": ["../x"]}]}),
        text({**RUN, "mounts": [{**RUN["mounts"][1], "from": PARENT}]}),
        text({**RUN, "mounts": [{**RUN["mounts"][1], "target": "/."}]}),
        text({**RUN, "mounts": [{**RUN["mounts"][2], "source": "x"}]}),
        text({**RUN, "mounts": [{**RUN["mounts"][2], "text": 5}]}),
        text({**RUN, "mounts": ["x"]}),
        text({**RUN, "caches": ["/"]}),
        text({**RUN, "tmpfs": ["/"]}),
        text({**RUN, "tmpfs": ["../x"]}),
        text({**RUN, "secrets": [{"credential": "b0", "file": "/"}]}),
        text({**COPY, "from": [PARENT]}),
        text({**COPY, "owner": ""}),
        text({**COPY, "mode": "+x"}),
        text({**COPY, "mode": "07777"}),
        text({**COPY, "mode": 493}),
        text({**COPY, "glob": "yes"}),
        text({**STAGE, "unpack": True}),
        text({**STAGE, "from": [PARENT + "/../x"]}),
        text({**STAGE, "source": "../x"}),
        text({**WORKDIR, "owner": ""}),
        text({**WORKDIR, "target": "x"}),
        text({**COPY, "owner": "a:b:c"}),
        text({**COPY, "source": "a/../../b"}),
        text({**DEBIAN, "suite": "--help"}),
        text({**DEBIAN, "packages": ["--help"]}),
        text({**DEBIAN, "packages": ["a,b"]}),
        text(DEBIAN, parents=[PARENT]),
    ],
)
def test_anything_else_is_refused(bad: bytes) -> None:
    """One line, and the status that stands for a fault of flyted's."""
    with pytest.raises(Failed, match="the job cannot be read") as failed:
        parse(bad)
    assert failed.value.status == EX_CONFIG
