"""CDI specs: what ``nvidia-ctk`` writes is understood, and what nobody should write is said, and never followed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from flyted.gpu.cdi import Spec, chosen, spec_of

LIB = "/usr/lib/x86_64-linux-gnu"
# shortened from the output of nvidia-ctk 1.17.8 (cdi generate) for two GPUs
SPEC: dict[str, Any] = {
    "cdiVersion": "0.5.0",
    "kind": "nvidia.com/gpu",
    "devices": [
        {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}, {"path": "/dev/dri/card1"}]}},
        {"name": "all", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0", "permissions": "rw"}]}},
    ],
    "containerEdits": {
        "env": ["NVIDIA_VISIBLE_DEVICES=void"],
        "deviceNodes": [{"path": "/dev/nvidiactl"}, {"path": "/dev/nvidia-uvm"}],
        "hooks": [
            {
                "hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook",
                "args": ["nvidia-cdi-hook", "create-symlinks", "--link", f"libcuda.so.1::{LIB}/libcuda.so",
                         "--link", f"../libnvidia-allocator.so.1::{LIB}/gbm/nvidia-drm_gbm.so"],
                "env": ["NVIDIA_CTK_DEBUG=false"],
            },
            {
                "hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook",
                "args": ["nvidia-cdi-hook", "update-ldcache", "--folder", LIB],
            },
        ],
        "mounts": [
            {"hostPath": f"{LIB}/libcuda.so.570.86.10", "containerPath": f"{LIB}/libcuda.so.570.86.10",
             "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"]},
            {"hostPath": "/run/nvidia-persistenced/socket", "containerPath": "/run/nvidia-persistenced/socket",
             "options": ["rbind"]},
        ],
    },
}  # fmt: skip


def changed(where: str, value: object) -> dict[str, Any]:
    """The spec with another value; ``where``: keys and indexes."""
    spec: Any = copy.deepcopy(SPEC)
    *path, last = (int(key) if key.isdigit() else key for key in where.split("."))
    here = spec
    for key in path:
        here = here[key]
    here[last] = value
    return spec  # type: ignore[no-any-return]


def test_what_nvidia_writes_is_understood() -> None:
    """Mounts, links and variables; the nodes are the lease's affair, and the linker's cache is not needed."""
    found = spec_of("/etc/cdi/nvidia.yaml", SPEC)
    assert found == Spec(
        "/etc/cdi/nvidia.yaml",
        frozenset({"0", "all"}),
        (
            (f"{LIB}/libcuda.so.570.86.10", f"{LIB}/libcuda.so.570.86.10"),
            ("/run/nvidia-persistenced/socket", "/run/nvidia-persistenced/socket"),
        ),
        (("libcuda.so.1", f"{LIB}/libcuda.so"), ("../libnvidia-allocator.so.1", f"{LIB}/gbm/nvidia-drm_gbm.so")),
        (("NVIDIA_VISIBLE_DEVICES", "void"),),
    )


def test_other_devices_are_no_affair_of_ours() -> None:
    """Whatever else is in their spec."""
    assert spec_of("/etc/cdi/amd.json", {"kind": "amd.com/gpu", "cdiVersion": 7}) is None
    assert spec_of("/etc/cdi/mofed.json", {"kind": "nvidia.com/mofed"}) is None


@pytest.mark.parametrize(
    "hook", ["update-ldcache", "create-soname-symlinks", "enable-cuda-compat", "disable-device-node-modification"]
)
def test_nvidias_other_hooks_are_not_missed(hook: str) -> None:
    """Links by soname are made of the libraries themselves; the others change what is no part of a read-only root."""
    found = spec_of("f", changed("containerEdits.hooks.1.args", ["nvidia-cdi-hook", hook, "--folder", LIB]))
    assert found is not None
    assert found.notes == ()


def test_a_hook_that_is_not_known_is_noted() -> None:
    """It is not run, and doctor says so; the rest counts."""
    found = spec_of("f", changed("containerEdits.hooks.1.args", ["nvidia-cdi-hook", "make-coffee"]))
    assert found is not None
    assert found.notes == ("hook 'nvidia-cdi-hook make-coffee' is not run",)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "it is a list, not a map"),
        (changed("cdiVersion", "9.0.0"), r"has cdiVersion '9\.0\.0', which is not known"),
        (changed("cdiVersion", None), "has cdiVersion None"),
        (changed("extra", 1), "it has the unknown field 'extra'"),
        (changed("devices", {}), "devices is not a list"),
        (changed("devices", []), "does not describe a device"),
        (changed("devices.0", "0"), "devices is '0', not a map"),
        (changed("devices.0.name", "all"), "describes a device twice"),
        (changed("devices.0.name", "a\n\x1b[31m"), r"a device's name is 'a\\n\\x1b\[31m'"),
        (changed("devices.0.strange", 1), "device '0' has the unknown field 'strange'"),
        (changed("containerEdits", "x"), "containerEdits is 'x', not a map"),
        (changed("containerEdits.mount", []), "containerEdits has the unknown field 'mount'"),
        (changed("containerEdits.env", ["NONE"]), "'NONE' is not a variable"),
        (changed("containerEdits.env", ["A B=1"]), "'A B=1' is not a variable"),
        (changed("containerEdits.env", ["A=1\nLD_PRELOAD=/x"]), "not a text of one line"),
        (changed("containerEdits.mounts", ["/x"]), "mounts is '/x', not a map"),
        (changed("containerEdits.mounts", [{}] * 5000), "mounts is not a list, or too long"),
        (changed("containerEdits.mounts.0.flags", 1), "a mount has the unknown field 'flags'"),
        (changed("containerEdits.mounts.0.hostPath", None), "a path is None, not a text"),
        (changed("containerEdits.mounts.0.hostPath", "etc/shadow"), "'etc/shadow' is not a plain absolute path"),
        (changed("containerEdits.mounts.0.hostPath", "/usr/lib/../../etc/shadow"), "is not a plain absolute path"),
        (changed("containerEdits.mounts.0.containerPath", "/"), "'/' is not a plain absolute path"),
        (changed("containerEdits.mounts.0.containerPath", "/a/b\x00"), "not a text of one line"),
        (changed("containerEdits.mounts.0.containerPath", "/" + "a" * 5000), "not a text of one line"),
        (changed("containerEdits.hooks.0.args.3", "libcuda.so.1"), "'libcuda.so.1' is not a link"),
        (changed("containerEdits.hooks.0.args.3", "x::lib/../y"), "is not a plain absolute path"),
        (changed("containerEdits.hooks.0.args", [1]), "a hook is 1, not a text"),
    ],
)  # fmt: skip
def test_a_wrong_spec_is_refused_as_a_whole(data: object, said: str) -> None:
    """With what is wrong, in one printable line: half of a driver is worse than none."""
    with pytest.raises(ValueError, match=said) as caught:
        spec_of("f", data)
    assert str(caught.value).isprintable()


def of(file: str, *devices: str) -> Spec:
    return Spec(file, frozenset(devices))


def test_the_later_folder_goes_first_and_conflicts_count_for_nobody() -> None:
    """As the specification has it: /run/cdi replaces devices of /etc/cdi; two of one folder are a conflict."""
    etc, run = of("etc", "0", "all"), of("run", "0", "all")
    assert chosen([[etc], [run]]) == ([run], [])
    assert chosen([[etc], []]) == ([etc], [])
    assert chosen([[of("etc", "0", "1")], [of("run", "0")]])[0] == [of("run", "0"), of("etc", "0", "1")]
    found, problems = chosen([[etc], [of("a", "0"), of("b", "0")]])
    assert found == [etc]
    assert problems == ["a: device '0' is also in another file", "b: device '0' is also in another file"]
    assert chosen([[], []]) == ([], [])
