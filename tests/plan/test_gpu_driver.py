"""The driver's files in the root of an image: which links, what is missing, and the units that show them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from flyted.contract.errors import HostFailure
from flyted.contract.names import Replica
from flyted.launch.words import HOST, NVIDIA
from flyted.plan.facts import RootFact
from flyted.plan.gpus import driver
from flyted.plan.gpus.facts import DriverFile, DriverFiles, inventory_of
from flyted.plan.gpus.lease import granted
from flyted.plan.units import UnitPair, app_units
from tests.plan.gpus import gpu
from tests.values import spec

LIB = "/usr/lib/x86_64-linux-gnu"
CUDA = DriverFile(f"{LIB}/libcuda.so.570.1", f"{LIB}/nvidia/current/libcuda.so.570.1", "libcuda.so.1")
SMI = DriverFile("/usr/bin/nvidia-smi", "/usr/lib/nvidia/current/nvidia-smi")
FILES = DriverFiles(
    "/etc/cdi/nvidia.yaml",
    (CUDA, DriverFile(f"{LIB}/libnvidia-ml.so.1", f"{LIB}/libnvidia-ml.so.570.1", "libnvidia-ml.so.1"), SMI),
    (("libcuda.so.1", f"{LIB}/libcuda.so"), ("../libnvidia-allocator.so.1", f"{LIB}/gbm/nvidia-drm_gbm.so")),
    (("NVIDIA_VISIBLE_DEVICES", "void"), ("PATH", "/x"), ("LD_PRELOAD", "/x.so"), ("CUDA_VISIBLE_DEVICES", "7")),
)
THERE = f"{HOST}/lib/x86_64-linux-gnu"
ROOT = RootFact(("a" * 32,), python="/opt/venv/bin/python")


def test_each_library_has_the_names_that_programs_use() -> None:
    """Its soname, which no spec lists, its file's name, and what hooks would make; programs apart."""
    assert driver.links(FILES) == {
        "lib/libcuda.so.570.1": f"{THERE}/nvidia/current/libcuda.so.570.1",
        "lib/libcuda.so.1": f"{THERE}/nvidia/current/libcuda.so.570.1",
        "lib/libcuda.so": f"{THERE}/nvidia/current/libcuda.so.570.1",
        "lib/libnvidia-ml.so.1": f"{THERE}/libnvidia-ml.so.570.1",
        "lib/libnvidia-ml.so.570.1": f"{THERE}/libnvidia-ml.so.570.1",
        "bin/nvidia-smi": f"{HOST}/lib/nvidia/current/nvidia-smi",
    }


@pytest.mark.parametrize(
    "file",
    [
        DriverFile("/usr/lib/libx.so.1", "/etc/shadow", "libx.so.1"),
        DriverFile("/usr/lib/libx.so.1", "/usr", "libx.so.1"),
        DriverFile("/usr/lib/libx.so.1", "/usr/../etc/shadow", "libx.so.1"),
        DriverFile("/usr/lib/libx.so.1", "/usr//etc/shadow", "libx.so.1"),
        DriverFile("/usr/lib/libx.so.1", "/var/lib/flyted/secrets/x.so", "libx.so.1"),
        DriverFile("/etc/passwd", "/usr/lib/passwd"),
        DriverFile("/usr/bin/../lib/x", "/usr/lib/x"),
        DriverFile("/lib/firmware/nvidia/570.1/gsp_ga10x.bin", "/usr/lib/firmware/nvidia/570.1/gsp_ga10x.bin"),
    ],
)
def test_no_spec_shows_what_apps_do_not_see_anyway(file: DriverFile) -> None:
    """All links lead below the machine's /usr; what is neither a library nor a program has none."""
    assert driver.links(dataclasses.replace(FILES, files=(file,), links=())) == {}


def test_names_are_plain() -> None:
    """A soname is written in a file that could say anything."""
    odd = dataclasses.replace(CUDA, soname="../../etc/x.so.1", place="/usr/lib/.so")
    assert set(driver.links(DriverFiles("ldconfig", (odd,)))) == {"lib/libcuda.so.570.1"}


def test_the_specs_variables_are_given_but_for_our_own() -> None:
    """Those that lead to code, and the lease's."""
    assert driver.variables(FILES) == {"NVIDIA_VISIBLE_DEVICES": "void"}
    assert json.loads(granted([gpu("GPU-1")], driver.variables(FILES))) == {
        "devices": ["GPU-1"], "environment": {"NVIDIA_VISIBLE_DEVICES": "void"},
    }  # fmt: skip
    assert json.loads(granted([gpu("GPU-1")], {})) == {"devices": ["GPU-1"]}


def test_without_libcuda_no_program_can_use_a_gpu() -> None:
    """Said with where it is, if it is where apps in a root cannot see it."""
    assert driver.unusable(FILES) == ""
    assert "was not found, neither by a CDI spec nor by ldconfig" in driver.unusable(DriverFiles())
    outside = dataclasses.replace(CUDA, path="/opt/nvidia/libcuda.so.570.1")
    assert "is /opt/nvidia/libcuda.so.570.1, and such an app sees" in driver.unusable(DriverFiles("x", (outside,)))


@pytest.mark.parametrize(
    ("files", "ok", "said"),
    [
        (DriverFiles(), [True], ["none found, neither by a CDI spec nor by ldconfig"]),
        (
            FILES, [True],
            ["CDI spec /etc/cdi/nvidia.yaml: 5 names of libraries; missing: libnvidia-ptxjitcompiler.so.1"],
        ),
        (
            DriverFiles("ldconfig", FILES.files[1:]), [False],
            ["no CDI spec; by ldconfig: 2 names of libraries; missing: libcuda.so.1"],
        ),
        (dataclasses.replace(FILES, notes=("hook 'x' is not run",)), [True], ["; hook 'x' is not run"]),
        (
            dataclasses.replace(FILES, problems=("/run/cdi/x.json is not a map",)), [True, False],
            ["", "/run/cdi/x.json is not a map"],
        ),
        (
            dataclasses.replace(FILES, files=(*FILES.files, DriverFile("/usr/lib/liby.so", "/opt/liby.so"))),
            [True, False], ["", "not below /usr, so not for apps in root images: /opt/liby.so"],
        ),
    ],
)  # fmt: skip
def test_doctor_says_what_is_there_and_what_is_missing(files: DriverFiles, ok: list[bool], said: list[str]) -> None:
    """A line each; with what to do where something is wrong."""
    found = list(driver.findings(files))
    assert [fine for fine, *_ in found] == ok
    assert all(words in detail for words, (_ok, detail, _hint) in zip(said, found, strict=True))
    assert all(hint for fine, _detail, hint in found if not fine)


ANSWER: dict[str, Any] = {"driver": "570.1", "cuda": "12.8", "reason": "", "devices": []}
LISTED: dict[str, Any] = {
    "source": "ldconfig", "found": [["/a.so", "/usr/a.so", ""]], "links": [["a", "/b"]], "environment": [["A", "b"]],
    "problems": ["p"], "notes": ["n"],
}  # fmt: skip


def test_the_helpers_answer_is_read_also_that_of_an_older_one() -> None:
    """After an upgrade the helper of before may still run; it knows no files."""
    assert inventory_of({**ANSWER, "files": LISTED}).files == DriverFiles(
        "ldconfig", (DriverFile("/a.so", "/usr/a.so"),), (("a", "/b"),), (("A", "b"),), ("p",), ("n",)
    )
    assert inventory_of(ANSWER).files == DriverFiles()


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": 1}, {"source": "a\nb"}, {"found": [["/a", "/b"], ["/a"]]}, {"found": [[1, "", ""]]},
        {"found": [["/a", "/b", "", ""]]}, {"links": [["a"]]}, {"environment": ["abc"]}, {"problems": [None]},
        {"notes": ["\x1b[31m"]}, {"found": None},
    ],
)  # fmt: skip
def test_an_answer_that_is_not_as_it_should_be_is_refused(wrong: dict[str, Any]) -> None:
    """The helper passes on what foreign files say."""
    with pytest.raises(HostFailure, match="malformed answer"):
        inventory_of({**ANSWER, "files": {**LISTED, **wrong}})


def units(*env: tuple[str, str], gpus: int = 1, root: RootFact | None = ROOT) -> UnitPair:
    """The units of an app whose image sets variables."""
    wanted = spec("web", gpu_count=gpus)
    return app_units(wanted, Replica("web", 1), image_path="/usr", image_env=env, root=root)


def binds(pair: UnitPair) -> dict[str, tuple[str, bool]]:
    return {target: (source, optional) for source, target, optional, _flags in pair.service["BindReadOnlyPaths"]}


def variables(pair: UnitPair) -> dict[str, str]:
    return dict(json.loads(pair.start)["environment"])


def test_an_app_with_gpus_sees_the_folder_of_links_and_no_other_does() -> None:
    """Nothing of its units names a version of the driver, and all of it may be missing: it wakes after an upgrade."""
    more = binds(units()).items() - binds(units(gpus=0)).items()
    assert (NVIDIA, ("/run/flyted/nvidia", True)) in more
    assert {target for target, (source, optional) in more if source == target and optional} >= {"/usr/bin/nvidia-smi"}
    assert all(optional for _target, (_source, optional) in more)
    assert NVIDIA not in binds(units(root=None))


def test_the_images_own_libraries_go_first() -> None:
    """As in a container. Programs are found behind the image's own, too."""
    assert variables(units())["LD_LIBRARY_PATH"] == f"{NVIDIA}/lib"
    found = variables(units(("LD_LIBRARY_PATH", "/usr/local/cuda/lib64"), ("PATH", "/opt/bin:/bin")))
    assert found["LD_LIBRARY_PATH"] == f"/usr/local/cuda/lib64:{NVIDIA}/lib"
    assert found["PATH"] == f"/opt/bin:/bin:{NVIDIA}/bin"
    for other in (units(gpus=0), units(root=None)):
        assert "LD_LIBRARY_PATH" not in variables(other)
        assert NVIDIA not in variables(other)["PATH"]


def test_the_sandbox_is_that_of_other_apps_with_gpus() -> None:
    """Property by property: a root adds its own few, and the GPU adds no more than in an environment."""
    there, plain = units().service, units(gpus=0).service
    venv, plain_venv = units(root=None).service, units(gpus=0, root=None).service
    by_gpu = {name for name in there if there[name] != plain.get(name)}
    assert by_gpu == {name for name in venv if venv[name] != plain_venv.get(name)}
    assert {name: there[name] for name in by_gpu - {"BindReadOnlyPaths"}} == {
        name: venv[name] for name in by_gpu - {"BindReadOnlyPaths"}
    }
