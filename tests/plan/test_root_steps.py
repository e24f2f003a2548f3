"""What of a root image is still to be made, how its units are told, and what is recorded of it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from flyted.contract.app import SecretUse
from flyted.contract.errors import StoreCorrupt
from flyted.plan.images.layer_unit import LayerSettings
from flyted.plan.images.root import ImageConfig, RootPlan
from flyted.plan.images.root_record import (
    RootRecord,
    pythons,
    recipe_key,
    root_hash,
    root_record,
    root_text,
    version_of,
)
from flyted.plan.images.root_spec import root_from_spec
from flyted.plan.images.root_steps import describe, granted, missing, secrets_of
from tests.plan.roots import ARCH, docker, planned

BASE = "ghcr.io/flyteorg/flyte:py3.12-v2.1.0"
LAYERS = [
    {"aptPackages": {"packages": ["jq"]}},
    {"pipPackages": {"packages": ["six"], "secretMounts": [{"key": "token", "envVar": "TOKEN"}]}},
    {"commands": {"cmd": ["touch /x"]}},
]
RECIPE = root_from_spec({"baseImage": BASE, "layers": LAYERS}, {}, {}, ARCH)
PLAN = planned(RECIPE)


def ids(plan: RootPlan, *have: str) -> list[str]:
    return [job.id for _, job in missing(plan, have)]


def test_only_what_is_missing_is_made_and_all_below_it() -> None:
    """In order, each with its number among all steps."""
    jobs = [job.id for job in PLAN.jobs]
    assert missing(PLAN, ()) == list(enumerate(PLAN.jobs, 1))
    assert ids(PLAN, *jobs[:3]) == jobs[3:]
    assert ids(PLAN, *jobs[1:]) == jobs[:1]
    assert ids(PLAN, *jobs) == []


def test_a_stage_that_is_only_copied_from_is_not_made_again() -> None:
    """Unless the layer that has the copy is made again too."""
    plan = docker("FROM debian AS one\nRUN make\nFROM debian\nCOPY --from=one /a /a\nRUN last")
    *_, copy, last = plan.layers
    first = [job.id for job in plan.jobs if job.id not in plan.layers]
    assert len(first) == 1
    assert set(first) <= set(ids(plan))
    assert ids(plan, *plan.layers) == []
    assert ids(plan, *(layer for layer in plan.layers if layer != last)) == [last]
    assert set(first) <= set(ids(plan, *(layer for layer in plan.layers if layer != copy)))


def test_secrets_reach_the_step_that_names_them_and_those_of_the_machine_uv() -> None:
    """By credential: no value is in a job. A secret of the image comes before one of the machine of that name."""
    assert [use.key for use in secrets_of(RECIPE)] == ["token"]
    machine = (SecretUse("index", env="UV_INDEX_A_PASSWORD"), SecretUse("other", env="TOKEN"))
    found = {describe(job): granted(job, machine) for job in PLAN.jobs if job.job["step"]["kind"] == "run"}
    assert found["apt-get install jq"].uses == found["touch /x"].uses == {}
    pip = found["uv pip install six"]
    assert {name: use.key for name, use in pip.uses.items()} == {"b0": "token", "b1": "index"}
    told = json.loads(pip.text)["step"]["secrets"]
    assert told == [{"credential": "b0", "env": "TOKEN"}, {"credential": "b1", "env": "UV_INDEX_A_PASSWORD"}]
    unit = pip.unit(LayerSettings(), 7)
    assert [name for name, _ in unit["LoadCredential"]] == ["b0", "b1"]
    assert unit["StandardOutputFileDescriptor"] == 7


def test_a_unit_has_a_network_and_files_as_its_step_needs_them() -> None:
    """What only unpacks or copies has no network."""
    plan = docker("FROM debian\nRUN x\nCOPY a /a")
    units = [granted(job, ()).unit(LayerSettings(), 7) for job in plan.jobs]
    assert ["JoinsNamespaceOf" in unit for unit in units] == [False, True, False]
    read = [[source for source, *_ in unit["BindReadOnlyPaths"]] for unit in units]
    assert any("/blobs/sha256/" in path for path in read[0])
    assert any("/bundles/" in path for path in read[2])


def test_a_record_is_read_as_it_was_written() -> None:
    """And nothing else is."""
    config = ImageConfig((("A", "1"),), "flyte", "/srv", ("x",), (), ("80/tcp",), ("/data",))
    record = RootRecord("a" * 32, ("b" * 32,), config, "/p", "3.12", ("note",), {"debian": "sha256:x"}, 5.0)
    assert root_record(root_text(record)) == record
    image = record.image()
    assert (image.hash, image.python, image.note, image.env) == ("a" * 32, "3.12", "note", (("A", "1"),))
    assert image.root is not None
    assert (image.root.volumes, image.root.workdir) == (("/data",), "/srv")
    changes = {"bbbb": "../b", '"/p"': '"/p","x":1', '"format":1': '"format":0'}
    for bad in ("", "[]", "{}", *(root_text(record).replace(old, new) for old, new in changes.items())):
        with pytest.raises(StoreCorrupt):
            root_record(bad)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("workdir", "/srv\nExecStart=/bin/sh"),
        ("user", "a\x1b[2J"),
        ("volumes", ("/data\n",)),
        ("ports", ("\ud800",)),
        ("env", (("A", "half \ud83d"),)),
        ("env", (("A\0", "x"),)),
        ("entrypoint", ("a\0b",)),
        ("cmd", (7,)),
        ("env", (7,)),
    ],
)
def test_a_record_with_a_text_that_is_not_accepted_today_is_damaged(field: str, value: Any) -> None:
    """An earlier version may have written it. The image is made anew then, and its config is checked."""
    good = {"env": (("A", "two\nlines é"),), "cmd": ("sh", "-c", "a\nb")}
    assert root_record(root_text(RootRecord("a" * 32, (), ImageConfig(**good))))  # type: ignore[arg-type]
    with pytest.raises(StoreCorrupt):
        root_record(root_text(RootRecord("a" * 32, (), ImageConfig(**{**good, field: value}))))


def test_equal_images_have_one_name() -> None:
    """Whatever they were called; a variable makes another one, of the same layers."""
    assert root_hash(PLAN) == root_hash(dataclasses.replace(PLAN, notes=("x",)))
    more = [*LAYERS, {"env": {"envVariables": {"A": "1"}}}]
    other = root_from_spec({"baseImage": BASE, "layers": more}, {}, {}, ARCH)
    assert planned(other).layers == PLAN.layers
    assert root_hash(planned(other)) != root_hash(PLAN)
    assert recipe_key(other, ARCH) != recipe_key(RECIPE, ARCH)
    assert recipe_key(RECIPE, ARCH) == recipe_key(dataclasses.replace(RECIPE), ARCH) != recipe_key(RECIPE, "aarch64")


def test_the_python_of_an_image() -> None:
    """That of its environment, else the first on its path; by the name of the program itself."""
    assert pythons(PLAN.config)[0] == "/opt/venv/bin/python"
    found = pythons(ImageConfig((("PATH", "/usr/local/bin:/bin"), ("UV_PYTHON", "3.12"))))
    assert found == ("/usr/local/bin/python3", "/usr/local/bin/python", "/bin/python3", "/bin/python")
    names = ("python3.12", "python3.9", "python3.13t", "python3", "bash", "")
    assert [version_of(name) for name in names] == ["3.12", "", "3.13", "", "", ""]


def test_a_step_is_one_line() -> None:
    """Whatever its text is."""
    plan = docker("FROM debian\nRUN <<E\nmake\n  it\nE\nWORKDIR /x\nCOPY a /a\nRUN " + "x" * 300)
    lines = [describe(job) for job in plan.jobs]
    assert lines[0].startswith("unpack sha256:")
    assert lines[2:4] == ["make '/x'", "copy 'a' to '/a'"]
    assert all(line.isprintable() and len(line) <= 120 for line in lines)
