"""What is refused for an app whose image has its own root file system, and what it is told to write instead."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest

from flyted.contract.errors import FlytedError, InvalidInput, Unsupported
from flyted.plan.facts import Place, Platform, RootFact
from flyted.plan.images.root_check import check, check_links, check_places, check_python, is_volume
from tests.values import spec

OLD, NEW = Platform(kernel=(6, 1)), Platform(kernel=(6, 12))
ROOT = RootFact(("a" * 32,), python="/usr/bin/python3")
SERVER = ("fserve", "--resolver-args", "app:env", "--")


def checked(command: tuple[str, ...] = ("nginx",), root: RootFact = ROOT, on: Platform = NEW, **changes: Any) -> None:
    check(spec("a", command=command, port=8080, **changes), root, on)


@pytest.mark.parametrize(
    "command",
    [
        ("nginx", "-g", "daemon off;"),
        ("/docker-entrypoint.sh", "nginx"),  # such scripts look whether they are root first
        ("sh", "-c", "exec node server.js # no gosu"),
        ("/bin/sh", "-c", "echo chown; node x"),
        ("sh",),
        (*SERVER, "streamlit", "run", "su.py"),
        SERVER,
    ],
)
def test_a_program_of_the_image_is_fine(command: tuple[str, ...]) -> None:
    """Names of programs that need root may be anything's argument."""
    checked(command)


@pytest.mark.parametrize(
    ("command", "program"),
    [
        (("gosu", "postgres", "postgres"), "gosu"),
        (("/usr/local/bin/su-exec", "app", "run"), "su-exec"),
        (("sh", "-c", "chown -R app /data && exec gosu app run"), "chown"),
        (("bash", "-c", "cd /data; exec gosu app run"), "gosu"),
        ((*SERVER, "chown", "app", "/data", "&&", "run"), "chown"),
        ((*SERVER, "a", "&&", "exec", "su-exec", "app", "run"), "su-exec"),
    ],
)
def test_a_program_that_needs_root_is_refused(command: tuple[str, ...], program: str) -> None:
    """Said before anything starts, with what to write."""
    with pytest.raises(InvalidInput, match=f"app 'a' runs '{program}', which needs root") as refused:
        checked(command)
    assert "command=[...]" in refused.value.hint


def test_a_server_function_needs_a_python_in_the_image() -> None:
    """Other commands do not: launch runs on the machine's."""
    bare = dataclasses.replace(ROOT, python="")
    checked(("httpd",), bare)
    checked((*SERVER, "httpd"), bare)
    with pytest.raises(InvalidInput, match=r"has no Python 3\.10 or newer"):
        checked(SERVER, bare)


def test_a_server_function_is_not_built_on_an_old_python() -> None:
    """Known before the build; programs run on any Python, or on none."""
    for command in (("python", "-m", "http.server"), (*SERVER, "streamlit", "run")):
        check_python(spec("a", command=command, port=8080), "3.9")
    check_python(spec("a", command=SERVER), "")
    with pytest.raises(InvalidInput, match=r"has Python 3\.9, and its server function needs 3\.10 or newer") as caught:
        check_python(spec("a", command=SERVER), "3.9")
    assert "python_version=(3, 12)" in caught.value.hint


def test_an_old_kernel_has_a_limit_of_layers() -> None:
    """A page of options; 40 layers fit, whatever the app's name."""
    many = [dataclasses.replace(ROOT, layers=tuple(f"{n:032x}" for n in range(count))) for count in (40, 70)]
    checked(root=many[0], on=OLD)
    checked(root=many[1], on=NEW)
    with pytest.raises(InvalidInput, match="has 70 layers, more than this kernel can mount"):
        checked(root=many[1], on=OLD)


@pytest.mark.parametrize("folder", ["/data", "/var/lib/nginx", "/root/.cache", "/home/app", "/usr/share/nginx/html"])
def test_a_volume_is_a_folder_of_the_image(folder: str) -> None:
    """Any that a program keeps its data in."""
    assert is_volume(folder)
    checked(root=dataclasses.replace(ROOT, volumes=(folder,)))


@pytest.mark.parametrize(
    "folder",
    ["/", "", "data", "/usr", "/etc", "/proc/x", "/a/../etc", "/a/./b", "/a:b", "/a b", "/a\n", "/usr/lib/flyted/host",
     "/run/flyted/image", "/run/credentials/x", "/var/lib/flyted-app-x/work/link/x", "/var/cache/flyted-app-x",
     "/var/lib/private/x", "/etc/flyte/secrets", "/root", "/home"],
)  # fmt: skip
def test_a_volume_may_not_hide_the_system(folder: str) -> None:
    """Nor break out of its option."""
    assert not is_volume(folder)
    with pytest.raises(InvalidInput, match="cannot be made writable"):
        checked(root=dataclasses.replace(ROOT, volumes=(folder,)))


@pytest.mark.parametrize(("on", "changes"), [(Platform("riscv64"), {}), (NEW, {"root": RootFact((), workdir="x")})])
def test_what_is_not_supported_is_said(on: Platform, changes: dict[str, Any]) -> None:
    """Before a unit is made that could not start."""
    with pytest.raises(FlytedError, match=r"image of app 'a'|app 'a', whose image"):
        checked(on=on, **changes)


@pytest.mark.parametrize(
    ("links", "said"),
    [
        ({"/away/x": "/usr/lib/flyted/host/share/x"}, "/away/x in it is a link to '/usr/lib/flyted/host/share/x'"),
        ({"/away/x": "/var/lib/flyted-app-a/work/x"}, "/away/x in it"), ({"/away/x": ""}, "/away/x in it"),
        ({"/var/lib": "/usr/lib/flyted/host/share"}, "/var/lib in it"),
        ({"/etc/hosts": "/usr/lib/flyted/host/share/x"}, "/etc/hosts in it"),
        ({"/etc/flyte/secrets": "/usr/lib/flyted/host/x"}, "/etc/flyte/secrets in it"),
        ({"/usr/lib/flyted/nvidia": "/usr/lib/flyted/host/x"}, "/usr/lib/flyted/nvidia in it"),
    ],
)  # fmt: skip
def test_no_mount_point_is_made_in_a_folder_of_the_machine(links: dict[str, str], said: str) -> None:
    """PID 1 would do so as root, wherever the links of a stranger's image lead."""
    with pytest.raises(Unsupported, match=re.escape(said)):
        check_links(spec(), ["/away/x"], lambda path: links.get(path, path))
    check_links(spec(), ["/away/x"], lambda path: {"/away/x": "/run/x", "/etc/resolv.conf": "/run/r"}.get(path, path))


def test_gpus_need_glibc() -> None:
    """Which NVIDIA's driver is linked with: an image of Alpine cannot load it."""
    alpine = dataclasses.replace(ROOT, musl=True)
    checked(gpu_count=1)
    checked(root=alpine)
    with pytest.raises(
        Unsupported, match=r"GPUs for app 'a', whose image has musl .*NVIDIA's driver needs glibc"
    ) as it:
        checked(root=alpine, gpu_count=1)
    assert "Debian" in it.value.hint


USUAL = dict.fromkeys(("/dev", "/etc", "/proc", "/run", "/sys", "/tmp", "/usr", "/var"), Place.FOLDER)


def places(**more: Place) -> Callable[..., Place]:
    """An image with the usual folders, and what is named: "etc_hosts" for /etc/hosts."""
    there = {**USUAL, **{f"/{name.replace('_', '/')}": place for name, place in more.items()}}

    def place(path: str, *, links: bool = True) -> Place:
        assert links or path == "/run"
        return there.get(path, Place.NOTHING)

    return place


@pytest.mark.parametrize("more", [{}, {"etc_hosts": Place.FILE}, {"var": Place.NOTHING}, {"root": Place.FILE}])
def test_an_image_with_its_folders_or_without_is_fine(more: dict[str, Place]) -> None:
    """What is not there is made when it is mounted."""
    check_places("it", ("a",), places(**more))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"proc": Place.FILE}, "/proc in it is a file or a link, and has to be a folder"),
        ({"run": Place.FILE}, "/run in it is a file or a link, and has to be a folder"),
        ({"tmp": Place.LOOP}, "/tmp in it is a link without end, and has to be a folder"),
        ({"var_lib": Place.FILE}, "/var/lib in it is a file"),
        ({"etc_hosts": Place.FOLDER}, "/etc/hosts in it is a folder, and has to be a file"),
        ({"etc_resolv.conf": Place.LOOP}, "/etc/resolv.conf in it is a link without end, and has to be a file"),
    ],
)
def test_what_systemd_could_not_mount_on_is_refused(more: dict[str, Place], said: str) -> None:
    with pytest.raises(Unsupported, match="the image of a cannot be run: ") as caught:
        check_places("the image of a", ("a",), places(**more))
    assert said in caught.value.message
    assert "another image" in caught.value.hint


def test_an_image_without_layers_is_refused() -> None:
    with pytest.raises(Unsupported, match="the image of a is empty: it has no layers"):
        check_places("the image of a", (), places())
