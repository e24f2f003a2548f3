"""What an app in the root of its image finds in /root and /home: the image's folders, and never the machine's.

systemd binds them over empty ones, and follows links in what it binds on the machine. So images have links there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.contract.names import Replica
from flyted.plan.images import root_mount
from flyted.plan.images.root_mount import HOMES
from tests.machine.kit import roots
from tests.machine.kit.roots import deployed, image, spec
from tests.machine.kit.units import sh, show
from tests.machine.kit.users import curl, forget_apps

LOOK = """
for each in /root /home /home/x; do
    echo "$each: $(busybox ls -A $each 2>/dev/null | busybox xargs echo)"
    { echo x >$each/written; } 2>/dev/null && echo "$each is writable"
done >/tmp/index.html
exec httpd -f -p 8080 -h /tmp
"""
LINKS = {
    "a link to the machine's settings": {"root": "/etc", "home": "/var/lib/flyted"},
    "a link to the machine's root": {"root": "/", "home": "/proc/1/root"},
    "a link that climbs": {"root": "../../../../../../../../etc", "home": "../../../../../../../var/lib"},
    "a link to a link": {"root": "home", "home": "mnt", "mnt": "/run/flyted"},
    "links below": {"home/x": "/proc/1/root/etc", "home/y": "/var/lib/flyted", "root/z": "../../../../../../etc"},
}


def layer(number: int, files: dict[str, str], links: dict[str, str]) -> str:
    """A layer with these files and links."""
    name, folder = roots.layer(number)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for path, target in links.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).symlink_to(target)
    roots.owned(folder)
    return name


def found_by(name: str) -> dict[str, str]:
    """What the app saw in each folder at its start."""
    status, body = curl(f"https://{name}.apps.localhost/")
    assert status == 200, body + sh("journalctl", "-n30", "-o", "cat", "-u", f"flyted-app-{name}-r1-0.service")
    parts = (line.partition(":") for line in body.strip().split("\n"))
    return {where: seen.strip() for where, _, seen in parts}


@pytest.fixture(scope="module")
def apps() -> Iterator[dict[str, Replica]]:
    """An app for each image: with links in its homes, with files, and without any."""
    with roots.layers_folder():
        below = roots.busybox(501)
        made = layer(502, {"root/code": "", "home/x/data": ""}, {})
        wanted: dict[str, tuple[str, ...]] = {
            f"homes-link-{n}": (below, layer(510 + n, {}, links)) for n, links in enumerate(LINKS.values())
        }
        wanted |= {"homes-files": (below, made), "homes-none": (below,)}
        apps = [(spec(name, "/bin/sh", "-c", LOOK, port=8080), image(layers)) for name, layers in wanted.items()]
        yield dict(zip(wanted, deployed(*apps), strict=True))
        forget_apps("homes-")


@pytest.mark.parametrize("number", range(len(LINKS)), ids=LINKS)
def test_a_link_shows_nothing_of_the_machine(apps: dict[str, Replica], number: int) -> None:
    """PID 1 binds a folder of its own, whatever the image has in that place."""
    name = f"homes-link-{number}"
    found = found_by(name)
    if number == len(LINKS) - 1:
        assert (found["/root"], found["/home"]) == ("z", "x y")
        assert found["/home/x"] in ("", sh("ls", "-A", f"{root_mount.path(apps[name])}/etc").replace("\n", " "))
    else:
        assert found == {"/root": "", "/home": "", "/home/x": ""}
    for home in HOMES:
        assert not Path(f"{root_mount.path(apps[name])}{home}").is_symlink()
    assert show(apps[name].service)["ProtectHome"] == "tmpfs"


def test_what_the_image_has_there_is_seen(apps: dict[str, Replica]) -> None:
    """Read-only, as the rest of it; what it has not is empty."""
    assert found_by("homes-files") == {"/root": "code", "/home": "x", "/home/x": "data"}
    assert found_by("homes-none") == {"/root": "", "/home": "", "/home/x": ""}
