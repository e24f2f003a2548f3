"""Dockerfiles to layers: every instruction, what is refused, and the file, line and instruction in each error."""

from __future__ import annotations

import pytest

from flyted.contract.errors import InvalidInput, Unsupported
from flyted.plan.images.dockerfile import recipe_of_dockerfile
from flyted.plan.images.layers import references
from flyted.plan.images.root import ImageConfig, RootPlan
from tests.plan.roots import ARCH, CONTEXT, blob, docker, made, only, planned


def commands(plan: RootPlan) -> list[list[str]]:
    return [step["argv"] for step in made(plan, "run")]


def bases(text: str) -> tuple[str, ...]:
    return references(recipe_of_dockerfile(text, "Dockerfile", {}, ARCH))


def test_a_small_file_is_layers_and_a_config():
    """The base's layers lowest, one for each step, and how to run it."""
    plan = docker(
        "FROM debian:12\nRUN apt-get update\nCOPY app /srv/app\nENV MODE=fast\nUSER www-data\nWORKDIR /srv\n"
        'EXPOSE 8080\nVOLUME /data\nENTRYPOINT ["/srv/app"]\nCMD ["--port", "8080"]\n'
    )
    assert [job.job["step"]["kind"] for job in plan.jobs] == ["oci", "run", "copy", "folder"]
    assert plan.layers == tuple(job.id for job in plan.jobs)
    assert [job.parents for job in plan.jobs] == [plan.layers[:n] for n in range(4)]
    config = plan.config
    assert dict(config.env)["MODE"] == "fast"
    assert (config.user, config.workdir, config.ports, config.volumes) == (
        "www-data",
        "/srv",
        ("8080/tcp",),
        ("/data",),
    )
    assert (config.entrypoint, config.cmd) == (("/srv/app",), ("--port", "8080"))


def test_a_job_is_the_contract_with_the_step_program():
    """To the letter: flyted/layers reads it."""
    job = only(docker("FROM scratch\nENV A=1\nWORKDIR /w\nRUN --mount=type=cache,target=/c true\n"), "run")
    assert job.job == {
        "format": 1, "layer": job.id, "parents": list(job.parents), "cwd": "/w", "user": "root",
        "env": {"A": "1", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        "step": {
            "kind": "run", "argv": ["/bin/sh", "-c", "true"], "show": "RUN true", "mounts": [], "caches": ["/c"],
            "secrets": [],
        },
    }  # fmt: skip
    assert job.text.startswith('{"cwd":"/w","env":{')


def test_stages_copy_from_one_another_and_only_those_needed_are_built():
    """By name, number, or image; a stage that nobody uses is not built."""
    text = (
        "FROM golang AS build\nRUN make\nFROM debian AS unused\nRUN false\n"
        "FROM build AS more\nRUN more\nFROM scratch\nCOPY --from=build /app /a\nCOPY --from=2 /app /b\n"
        "COPY --from=ghcr.io/astral-sh/uv:0.13 /uv /bin/\n"
    )
    plan = docker(text)
    assert bases(text) == ("golang", "ghcr.io/astral-sh/uv:0.13")
    assert commands(plan) == [["/bin/sh", "-c", "make"], ["/bin/sh", "-c", "more"]]
    first, second, third = made(plan, "copy")
    assert len(first["from"]) == 2
    assert second["from"][:2] == first["from"]
    assert len(third["from"]) == 1
    assert [step["source"] for step in (first, second, third)] == ["app", "app", "uv"]
    assert len(plan.layers) == 3


def test_arguments_before_from_choose_the_base_and_have_to_be_asked_for():
    """A stage sees them only after its own ARG; a value there wins."""
    plan = docker(
        "ARG V=12\nARG NAME=debian:$V\nFROM ${NAME}-slim\nRUN echo $V\nARG V\nRUN echo $V\nARG V=13\nRUN echo $V\n"
        "ENV V=14\nRUN echo $V\n"
    )
    assert only(plan, "oci").job["step"]["blob"] == blob("debian:12-slim")
    seen = [job.job["env"].get("V") for job in plan.jobs if job.job["step"]["kind"] == "run"]
    assert seen == [None, "12", "13", "14"]


def test_a_stage_may_be_chosen_by_an_argument():
    """FROM base-${WHICH}."""
    plan = docker("ARG WHICH=b\nFROM a AS base-a\nRUN a\nFROM b AS base-b\nRUN b\nFROM base-${WHICH}\nRUN c\n")
    assert [words[-1] for words in commands(plan)] == ["b", "c"]


def test_the_machines_platform_is_known():
    """TARGETARCH and its like, if asked for."""
    plan = docker("FROM --platform=$BUILDPLATFORM scratch\nARG TARGETARCH\nARG TARGETPLATFORM\nRUN x\n")
    assert only(plan, "run").job["env"]["TARGETARCH"] == "amd64"
    assert only(plan, "run").job["env"]["TARGETPLATFORM"] == "linux/amd64"
    with pytest.raises(Unsupported, match="Dockerfile:1: FROM: --platform='linux/arm64' is not this machine's"):
        docker("FROM --platform=linux/arm64 debian\n")


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("ENV A=1 B=2", {"A": "1", "B": "2"}), ("ENV A two words", {"A": "two words"}),
        ('ENV A="two words" B=\'$X\'', {"A": "two words", "B": "$X"}),
        ("ENV A=two\\ words", {"A": "two words"}), ("ENV A=$BASE/x", {"A": "b/x"}),
        ("ENV A=1 B=$A", {"A": "1", "B": ""}),
        ("ENV A=1\nENV B=${A}2", {"A": "1", "B": "12"}), ("ENV A=x=y", {"A": "x=y"}), ("ENV A=", {"A": ""}),
        ("ENV A=1 \\\n  B=2", {"A": "1", "B": "2"}),
    ],
)  # fmt: skip
def test_variables(line, values):
    """Both forms, quotes, escapes; all of one line see the values before it."""
    plan = docker(f"FROM base\n{line}\n", ImageConfig(env=(("BASE", "b"),)))
    assert {name: value for name, value in plan.config.env if name not in {"PATH", "BASE"}} == values


def test_path_of_the_base_is_extended():
    """As in every Dockerfile that installs something to /opt."""
    plan = docker("FROM base\nENV PATH=/opt/bin:$PATH\n", ImageConfig(env=(("PATH", "/bin"),)))
    assert dict(plan.config.env)["PATH"] == "/opt/bin:/bin"


def test_run_forms_shells_and_continued_lines():
    """Shell form by SHELL, JSON form as it is; comments and empty lines inside do not count; [ is a test."""
    plan = docker(
        'FROM scratch\nRUN a && \\\n  # comment\n\n  b\nRUN ["/bin/x", "$A"]\nRUN [ -f x ] && y\n'
        'SHELL ["/bin/bash", "-ec"]\nRUN c\nCMD d\n'
    )
    assert commands(plan) == [
        ["/bin/sh", "-c", "a &&   b"], ["/bin/x", "$A"], ["/bin/sh", "-c", "[ -f x ] && y"], ["/bin/bash", "-ec", "c"],
    ]  # fmt: skip
    assert plan.config.cmd == ("/bin/bash", "-ec", "d")


def test_here_documents():
    """A script for the shell or another program, or input of a command; tabs go after <<-."""
    plan = docker(
        "FROM scratch\nRUN <<EOF\na\nb\nEOF\nRUN cat <<'X' >/f <<-Y\n$1\nX\n\tsecond\n\tY\n"
        "RUN <<EOF\n#!/usr/bin/env python3\nprint()\nEOF\nRUN echo '<<NO' \"a <<NO\" 1<<<NO\n"
    )
    script = "/tmp/flyted-script"
    assert [words[-1] for words in commands(plan)] == [
        "a\nb\n",
        "cat <<'X' >/f <<-Y\n$1\nX\nsecond\nY\n",
        f"cat > {script} <<'EOF'\n#!/usr/bin/env python3\nprint()\nEOF\nexec /usr/bin/env python3 {script}",
        "echo '<<NO' \"a <<NO\" 1<<<NO",
    ]


def test_directives():
    """escape= changes the character; syntax= says nothing; after a comment there are none."""
    assert commands(docker("# syntax=docker/dockerfile:1\n# escape=`\nFROM scratch\nRUN a `\n b\n"))[0][-1] == "a  b"
    assert commands(docker("# a comment\n# escape=`\nFROM scratch\nRUN a \\\n b\n"))[0][-1] == "a  b"
    assert commands(docker("\ufeffFROM scratch\r\nrun a \\\r\n b\r\n"))[0][-1] == "a  b"


def test_mounts():
    """bind of the context and of a stage, cache, tmpfs, secret as variable and as file."""
    plan = docker(
        "FROM a AS s\nFROM scratch\nWORKDIR /w\n"
        "RUN --mount=type=bind,source=req.txt,target=req.txt --mount=from=s,src=/x,dst=/y,rw "
        "--mount=type=cache,target=/root/.cache,id=k,sharing=locked --mount=type=tmpfs,target=/t "
        "--mount=type=secret,id=tok,env=TOKEN --mount=type=secret,id=netrc,target=/root/.netrc,mode=0400 "
        "--mount=type=secret,id=plain,required=true go\n",
        folders={"req.txt": "a" * 64},
    )
    job = only(plan, "run")
    step = job.job["step"]
    assert step["mounts"] == [
        {"folder": "a" * 64, "source": "req.txt", "target": "/w/req.txt", "writable": False},
        {"from": [plan.jobs[0].id], "source": "x", "target": "/y", "writable": True},
    ]
    assert (step["caches"], step["tmpfs"]) == (["/root/.cache"], ["/t"])
    assert step["secrets"] == [
        {"credential": "b0", "env": "TOKEN"}, {"credential": "b1", "file": "/root/.netrc"},
        {"credential": "b2", "file": "/run/secrets/plain"},
    ]  # fmt: skip
    assert [(name, secret.key, secret.optional) for name, secret in job.secrets] == [
        ("b0", "tok", True), ("b1", "netrc", True), ("b2", "plain", False)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "steps"),
    [
        ("COPY a /x", [("a", "/x")]), ("COPY a b /x/", [("a", "/x/"), ("b", "/x/")]), ("COPY . .", [(".", "/w/")]),
        ("COPY ./a ./", [("a", "/w/")]),
        ("COPY /a/../b sub/", [("b", "/w/sub/")]), ('COPY ["a b", "/x y/"]', [("a b", "/x y/")]),
        ("COPY $N /x", [("n", "/x")]),
    ],
)  # fmt: skip
def test_copies(line, steps):
    """Targets relative to WORKDIR; a folder's target ends with a slash."""
    if ".." in line:
        with pytest.raises(InvalidInput, match="leads out"):
            docker(f"FROM scratch\nWORKDIR /w\n{line}\n")
        return
    plan = docker(f"FROM scratch\nARG N=n\nWORKDIR /w\n{line}\n")
    assert [(step["source"], step["target"]) for step in made(plan, "copy")] == steps
    assert {step["folder"] for step in made(plan, "copy")} == {CONTEXT}


def test_a_copy_reads_the_narrowest_bundle():
    """Its own, else its folder's, else the whole context; a pattern is matched in what holds all of it."""
    folders = {"src": "1" * 64, "src/a": "2" * 64, "r.txt": "3" * 64}
    plan = docker("FROM scratch\nCOPY r.txt src src/a src/b src/a/*.py *.txt other /x/\n", folders=folders)
    assert [(step["folder"][0], step["source"], step.get("glob", False)) for step in made(plan, "copy")] == [
        ("3", "r.txt", False), ("1", "src", False), ("2", "a", False), ("1", "src/b", False), ("2", "a/*.py", True),
        ("c", "*.txt", True), ("c", "other", False),
    ]  # fmt: skip


def test_owners_modes_and_archives():
    """--chown, --chmod; ADD unpacks local archives."""
    plan = docker(
        "FROM scratch\nARG U=me\nCOPY --chown=$U:staff --chmod=0755 --link a /a\nADD --chown=1:2 b.tar.gz /b\n"
    )
    first, second = made(plan, "copy")
    assert (first["owner"], first["mode"], first.get("unpack")) == ("me:staff", "0755", None)
    assert (second["owner"], second["unpack"]) == ("1:2", True)


def test_owners_that_are_not_named_are_those_of_the_stage_and_the_archive():
    """As BuildKit has it; what the client sends is root's. A WORKDIR belongs to the USER of then."""
    plan = docker(
        "FROM a AS s\nFROM scratch\nCOPY a /a\nCOPY --from=s a /a\nADD a /a\nWORKDIR /b\nUSER me:us\nWORKDIR /c\n"
    )
    assert [(step["kind"], step["owner"]) for step in made(plan)] == [
        ("copy", "0:0"), ("copy", ""), ("copy", ""), ("folder", "0:0"), ("folder", "me:us"),
    ]  # fmt: skip


def test_a_pattern_is_one_in_copies_alone():
    """A mount has a path, whatever characters are in it; so has a copy that has none of them."""
    plan = docker(
        "FROM a AS s\nFROM scratch\nCOPY --from=s /lib/*.so /x/\nCOPY --from=s /a /x/\n"
        "RUN --mount=from=s,source=/a*,target=/y x\n"
    )
    assert [step.get("glob") for step in made(plan, "copy")] == [True, None]
    assert made(plan, "run")[0]["mounts"] == [
        {"from": [plan.jobs[0].id], "source": "a*", "target": "/y", "writable": False}
    ]


def test_entrypoint_forgets_the_bases_command():
    """And not one of the same stage."""
    base = ImageConfig(entrypoint=("e",), cmd=("c",))
    assert docker("FROM b\n", base).config.cmd == ("c",)
    assert docker('FROM b\nENTRYPOINT ["x"]\n', base).config.cmd == ()
    assert docker('FROM b\nCMD ["d"]\nENTRYPOINT ["x"]\n', base).config.cmd == ("d",)


def test_a_stage_inherits_from_the_one_below():
    """Variables, arguments, user, folder and shell."""
    plan = docker('FROM scratch AS a\nARG X=1\nENV Y=2\nUSER u\nWORKDIR /w\nSHELL ["s"]\nFROM a\nRUN x\n')
    job = only(plan, "run")
    assert (job.job["env"]["X"], job.job["env"]["Y"], job.job["user"], job.job["cwd"]) == ("1", "2", "u", "/w")
    assert job.job["step"]["argv"] == ["s", "x"]


def test_what_changes_nothing_is_told_or_left_out():
    """LABEL and MAINTAINER silently; HEALTHCHECK and STOPSIGNAL with the place."""
    plan = docker(
        "FROM scratch\nLABEL a=b\nMAINTAINER me\nHEALTHCHECK --interval=5s CMD curl x\nHEALTHCHECK NONE\n"
        "STOPSIGNAL SIGQUIT\nSTOPSIGNAL SIGTERM\n"
    )
    assert [note.partition(" is ignored")[0] for note in plan.notes] == [
        "Dockerfile:4: HEALTHCHECK", "Dockerfile:6: STOPSIGNAL",
    ]  # fmt: skip
    assert plan.jobs == ()


def test_ids_follow_from_what_a_step_sees():
    """Equal files give equal ids; another variable, base or bundle below changes them, another CMD does not."""
    text = "FROM base\nENV A=1\nRUN x\nCOPY a /a\n"
    whole = docker(text)
    assert docker(text).layers == whole.layers
    assert docker(text + "CMD y\nLABEL a=b\n").layers == whole.layers
    assert docker(text, folders={"a": "f" * 64}).layers[:2] == whole.layers[:2]
    assert docker(text, folders={"a": "f" * 64}).layers[2] != whole.layers[2]
    assert docker(text.replace("A=1", "A=2")).layers[0] == whole.layers[0]
    assert docker(text.replace("A=1", "A=2")).layers[1] != whole.layers[1]
    assert docker(text.replace("FROM base", "FROM other")).layers[0] != whole.layers[0]
    other = planned(recipe_of_dockerfile(text, "Elsewhere", {".": CONTEXT}, ARCH))
    assert other.layers == whole.layers


def test_secrets_are_in_an_id_by_name():
    """Which, and whose, but no value; the text for people is not in it."""

    def of(key: str) -> str:
        return only(docker(f"FROM scratch\nRUN --mount=type=secret,id={key},env=T x\n"), "run").id

    assert of("a") == of("a") != of("b")
