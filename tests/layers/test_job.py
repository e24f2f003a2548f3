"""What a job may be: each part is checked before a step begins."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flyted.layers.failed import Failed
from flyted.layers.job import Copy, Debian, Job, Mount, Oci, Run, Secret, parse
from flyted.layers.words import EX_CONFIG

LAYER, PARENT, FOLDER = "0123456789abcdef" * 2, "f" * 32, "a" * 64
RUN: dict[str, Any] = {
    "kind": "run",
    "argv": ["/bin/sh", "-c", "true"],
    "show": "true",
    "mounts": [{"folder": FOLDER, "source": "./a//b", "target": "/x/./y", "writable": True}],
    "caches": ["/root/.cache"],
    "secrets": [{"credential": "b0", "env": "TOKEN"}, {"credential": "b1", "file": "/run/secrets/x"}],
}
COPY: dict[str, Any] = {"kind": "copy", "folder": FOLDER, "source": ".", "target": "/opt/", "owner": "0:0"}
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
        (Mount(FOLDER, "a/b", "/x/y", True),),
        ("/root/.cache",),
        (Secret("b0", "TOKEN", ""), Secret("b1", "", "/run/secrets/x")),
    )
    job = parse(text(RUN))
    assert job == Job(LAYER, (PARENT,), {"A": "b"}, "/w/x", "a:0", step)
    assert (job.folders, job.secrets) == ((FOLDER,), step.secrets)


def test_a_copy_a_debian_and_a_pulled_layer() -> None:
    """The slash at a target's end has a meaning and stays."""
    copy, debian = parse(text(COPY)), parse(text(DEBIAN))
    assert (copy.step, copy.folders, copy.secrets) == (Copy(FOLDER, ".", "/opt/", "0:0"), (FOLDER,), ())
    assert parse(text(OCI)).step == Oci("b" * 64, "a type")
    assert (debian.step, debian.folders) == (Debian("trixie", tuple(DEBIAN["packages"])), ())


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
