"""Decides which files of NVIDIA's driver the root of an image gets, and reports missing ones. Pure.

Apps see the machine's /usr in such a root anyway (``words.HOST``). So they get one folder with links into it:
``words.NVIDIA``, a read-only bind of ``SHOWN``, which flyted brings up to date before each lease. A link costs no
mount and nothing of a unit's properties, so a sleeping app wakes with the driver as it is then. And whatever a spec
says, no app sees a file that it did not see before.

The unit names no file with the driver's version in its name, and the credential is asked for before PID 1 makes the
unit's mounts. So after an upgrade of the driver nothing has to be re-created. A few paths that no version changes
(``/usr/bin/nvidia-smi``, the configuration of Vulkan and EGL) are bound if they exist. All links lead below /usr,
which apps see. The price: a driver elsewhere, such as in /opt, is not found; doctor names its files. The nodes of
devices come from the lease, not from a spec.

flyted-gpu reads the specs, without any rights, and with Debian's ``python3-yaml``, because NVIDIA's tool writes YAML.
The daemon sees a checked list. The image's own libraries take precedence, as in a container, where ld.so(8) finds the
driver's by its cache, which comes after ``LD_LIBRARY_PATH``. A spec's hooks do not run: links are made from them, and
no cache is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from flyted.contract.app import AppSpec
from flyted.launch.words import HOST, NVIDIA
from flyted.plan.gpus.facts import SHOWN, DriverFile, DriverFiles

LIBRARIES = f"{NVIDIA}/lib"
CUDA = "libcuda.so.1"
USEFUL = ("libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1", "nvidia-smi")
"""What many programs need beside :data:`CUDA`, which all do: to look at GPUs, and to compile for one at run time."""
OWN_PLACES = (
    "/usr/bin/nvidia-smi",
    "/etc/OpenCL/vendors/nvidia.icd",
    "/etc/vulkan/icd.d/nvidia_icd.json", "/usr/share/vulkan/icd.d/nvidia_icd.json",
    "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
    "/usr/share/egl/egl_external_platform.d/10_nvidia_wayland.json",
    "/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json",
    "/usr/share/nvidia/nvoptix.bin",
)  # fmt: skip
"""What programs open by its path, which no version of the driver changes; each is bound if the machine has it.

Of NVIDIA's container toolkit (nvidia-container-toolkit, internal/discover/graphics.go). The kernel reads the firmware.
"""
_USR = "/usr/"
_LIBRARY = re.compile(r"\.so(?:\.|$)")
_PROGRAM = re.compile(r"/(?:usr/)?s?bin/([A-Za-z0-9._-]+)")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}")
_OURS = frozenset({"PATH", "HOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"})
_OTHERS = 3  # names that a message lists
INSTALL = "install the user-space part of the driver (libcuda1 on Debian), then: flytectl doctor"


def links(files: DriverFiles) -> dict[str, str]:
    """Return the links of the folder: its path there, such as ``lib/libcuda.so.1``, → where it leads in a root."""
    made: dict[str, str] = {}
    for each in files.files:
        target = _target(each)
        if not target:
            continue
        if _LIBRARY.search(_last(each.place)):
            for name in (_last(each.place), each.soname, _last(each.path)):
                _add(made, "lib", name, target)
        elif found := _PROGRAM.fullmatch(each.place):
            _add(made, "bin", found[1], target)
    for target, link in files.links:
        if (other := made.get(f"lib/{_last(target)}")) and _LIBRARY.search(_last(link)):
            _add(made, "lib", _last(link), other)
    return made


def variables(files: DriverFiles) -> dict[str, str]:
    """Return the variables of the spec, without those that are flyted's to set."""
    return {name: value for name, value in files.environment if name not in _OURS}


def unusable(files: DriverFiles) -> str:
    """Return why an app in a root of its own cannot use GPUs with these files; "" if it can."""
    if f"lib/{CUDA}" in links(files):
        return ""
    for each in files.files:
        if CUDA in (each.soname, _last(each.place)):
            return f"{CUDA} of the NVIDIA driver is {each.path}, and such an app sees only /usr of the machine"
    return f"{CUDA} of the NVIDIA driver was not found, neither by a CDI spec nor by ldconfig"


def findings(files: DriverFiles) -> Iterator[tuple[bool, str, str]]:
    """Yield what doctor says of the files: whether that is fine, the finding, and what to do."""
    made = links(files)
    found = f"{sum(name.startswith('lib/') for name in made)} names of libraries"
    by = (
        "no CDI spec; by ldconfig"
        if files.source == "ldconfig"
        else f"CDI spec {files.source}"
        if files.source
        else ""
    )
    lost = [name for name in (CUDA, *USEFUL) if f"lib/{name}" not in made and f"bin/{name}" not in made]
    outside = [each.path for each in files.files if not _target(each)]
    if not by:
        yield True, "none found, neither by a CDI spec nor by ldconfig; apps in root images cannot use GPUs", ""
    else:
        notes = "".join(f"; {note}" for note in files.notes[:_OTHERS])
        missing = f"; missing: {', '.join(lost)}" if lost else ""
        yield CUDA not in lost, f"{by}: {found}{missing}{notes}", INSTALL if CUDA in lost else ""
    if outside:
        listed = ", ".join(outside[:_OTHERS])
        yield False, f"not below /usr, so not for apps in root images: {listed}", "install the driver below /usr"
    for problem in files.problems:
        yield False, problem, "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml, or remove the file"


# the units of an app whose image has its own root file system


def binds() -> list[tuple[str, str, bool, int]]:
    """Return what its service binds for the driver, all of it if it is there."""
    return [(SHOWN, NVIDIA, True, 0), *((path, path, True, 0) for path in OWN_PLACES)]


def environment(spec: AppSpec, given: Mapping[str, str]) -> dict[str, str]:
    """Return its variables with those that lead to the driver, behind what the image or the app has set itself.

    So the image's own libraries go first, as in a container, where ld.so(8) finds the driver's by its cache.
    """
    if not spec.gpu_count:
        return dict(given)
    path = [*filter(None, [given.get("LD_LIBRARY_PATH", "")]), LIBRARIES]
    programs = [*filter(None, [given.get("PATH", "")]), f"{NVIDIA}/bin"]
    return {**given, "LD_LIBRARY_PATH": ":".join(path), "PATH": ":".join(programs)}


def _target(file: DriverFile) -> str:
    return f"{HOST}/{file.path.removeprefix(_USR)}" if file.path.startswith(_USR) and _clean(file.path) else ""


def _clean(path: str) -> bool:
    return all(part not in ("", ".", "..") for part in path.split("/")[1:])


def _add(made: dict[str, str], folder: str, name: str, target: str) -> None:
    if _NAME.fullmatch(name):
        made.setdefault(f"{folder}/{name}", target)


def _last(path: str) -> str:
    return path.rpartition("/")[2]
