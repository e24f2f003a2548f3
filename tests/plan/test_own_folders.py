"""The folders of an image that an app can write to: by its user, or where programs of root's keep what they write."""

from __future__ import annotations

import pytest

from flyted.layers.words import BASE
from flyted.plan.images.own_folders import MOST_BYTES, MOST_FILES, Folders, Own, own_folders, user_id

PASSWD = "root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/:\nbad:x:-1:0::/:\nshort:x\n33:x:7:7::/:\n"


@pytest.mark.parametrize(
    ("user", "number"),
    [
        ("", 0), ("root", 0), ("0", 0), ("0:0", 0), ("web", 1000), ("web:web", 1000), ("1234:5", 1234), ("33", 7),
        ("nobody", None), ("bad", None), ("short", None), ("999999", None),
    ],
)  # fmt: skip
def test_the_user_of_an_image(user: str, number: int | None) -> None:
    """A name, else a number; the list of users is a stranger's text."""
    assert user_id(user, PASSWD) == number


def folders(tree: dict[str, int], sizes: dict[str, tuple[int, int]] | None = None) -> Folders:
    """The folders of an image: path → its user's number there."""

    def below(path: str) -> list[tuple[str, int]]:
        start = path.rstrip("/") + "/"
        return [(each, BASE + user) for each, user in tree.items() if each.rpartition("/")[0] + "/" == start]

    return Folders(below, lambda path: (sizes or {}).get(path, (0, 0)))


TREE = {
    "/app": 1000, "/app/data": 1000, "/home": 0, "/home/web": 1000, "/usr": 0, "/usr/lib": 0, "/usr/lib/x": 1000,
    "/usr/src": 0, "/usr/src/app": 1000, "/etc": 1000, "/srv": 0, "/srv/other": 7, "/srv/vol": 0, "/srv/vol/a": 1000,
}  # fmt: skip


def test_what_belongs_to_the_user_is_writable() -> None:
    """The outermost folder of each; not the system's, and not what is below a volume anyway."""
    assert own_folders(1000, ("/srv/vol",), folders(TREE)) == Own(("/app", "/home/web", "/usr/src/app"))
    assert own_folders(7, (), folders(TREE)) == Own(("/srv/other",))
    assert own_folders(None, (), folders(TREE)) == Own()


def test_what_launch_runs_on_is_not_covered() -> None:
    """An environment of the user's, and uv's Python that it links to: they would be empty when launch begins."""
    tree = {
        "/home": 0, "/home/app": 7, "/home/app/.venv": 7, "/home/app/.venv/lib": 7, "/home/app/data": 7,
        "/home/app/.local": 7, "/home/app/.local/cpython": 7, "/home/app/.local/share": 7, "/opt": 0, "/opt/pixi": 7,
    }  # fmt: skip
    pythons = ("/home/app/.venv/bin/python", "/home/app/.local/cpython/bin/python3.12")
    assert own_folders(7, (), folders(tree), pythons).folders == (
        "/home/app/.local/share", "/home/app/data", "/opt/pixi",
    )  # fmt: skip
    usual = {"/usr": 0, "/usr/local": 0, "/usr/local/app": 7, "/usr/src": 7}
    assert own_folders(7, (), folders(usual), ("/usr/local/bin/python", "/usr/bin/python3.12", "")).folders == (
        "/usr/local/app", "/usr/src",
    )  # fmt: skip


def test_a_home_is_found_behind_an_environment_with_thousands_of_folders() -> None:
    """Folders near the top are looked at first; the search ends after some."""
    tree = {"/home": 0, "/home/web": 1000, "/opt": 0, "/var": 0, "/var/x": 0}
    many = {f"/{top}/x/{n}": 0 for top in ("opt", "var") for n in range(6_000)}
    below: dict[str, list[tuple[str, int]]] = {}
    for path, user in {**tree, "/opt/x": 0, **many}.items():
        below.setdefault(path.rpartition("/")[0] or "/", []).append((path, BASE + user))
    found = own_folders(1000, (), Folders(lambda path: below.get(path, []), lambda _path: (0, 0)))
    assert found.folders == ("/home/web",)


@pytest.mark.parametrize("size", [(MOST_FILES + 1, 0), (1, MOST_BYTES + 1)])
def test_a_large_folder_stays_read_only(size: tuple[int, int]) -> None:
    """It would be copied to memory at each start; that is said."""
    found = own_folders(7, (), folders(TREE, {"/srv/other": size}))
    assert found == Own((), ("/srv/other",))
    assert found.notes(()) == ("/srv/other: too large to be writable, although the image's user owns it",)


def test_programs_of_root_have_their_folders_below_var() -> None:
    """Those that are empty, for logs, or already of the user that a program becomes."""
    tree = {
        "/var/cache/nginx": 0, "/var/cache/apt": 0, "/var/lib/nginx": 33, "/var/lib/dpkg": 0, "/var/lib/misc": 0,
        "/var/log/nginx": 0, "/var/log/apt": 0, "/var/spool/x": 0, "/opt/empty": 0,
    }  # fmt: skip
    sizes = {"/var/lib/dpkg": (9, 9), "/var/log/nginx": (2, 0), "/var/lib/nginx": (1, 1)}
    found = own_folders(0, (), folders(tree, sizes))
    assert found.folders == ("/var/cache/nginx", "/var/lib/nginx", "/var/log/nginx", "/var/spool/x")
    assert found.notes(("/data", "/var/cache/nginx"))[0].startswith(
        "the app can write to /data, /var/cache/nginx, /var/lib/nginx, /var/log/nginx, /var/spool/x of its image"
    )
    assert Own().notes(()) == Own().notes(("/", "", "/etc", "/data/../etc")) == ()


def test_programs_of_root_have_empty_folders_elsewhere() -> None:
    """At the top (Caddy: /data, /config), and as Apache httpd and Tomcat have them; not those that all images have."""
    tree = {
        "/app": 0, "/config": 0, "/config/caddy": 0, "/data": 0, "/etc": 0, "/home": 0, "/mnt": 0, "/srv": 0,
        "/usr": 0, "/opt": 0, "/opt/data": 0, "/opt/kong": 0, "/opt/kong/work": 0, "/opt/kong/lib": 0, "/usr/local": 0,
        "/usr/local/apache2": 0, "/usr/local/apache2/logs": 0, "/usr/local/tomcat": 0, "/usr/local/tomcat/work": 0,
        "/usr/local/tomcat/temp": 0, "/usr/local/tomcat/webapps": 0, "/usr/local/share": 0, "/usr/local/share/data": 0,
    }  # fmt: skip
    sizes = {"/app": (3, 10), "/config": (1, 0), "/usr/local/tomcat/temp": (1, 0), "/usr/local/share/data": (1, 1)}
    assert own_folders(0, ("/config",), folders(tree, sizes)).folders == (
        "/data", "/opt/kong/work", "/usr/local/apache2/logs", "/usr/local/tomcat/temp", "/usr/local/tomcat/work",
    )  # fmt: skip
    assert "/config" in own_folders(0, (), folders(tree, sizes)).folders


def test_nginx_is_configured_by_its_entry_point() -> None:
    """As its own image is, from templates; not a Debian's nginx, whose folder nothing writes to."""
    tree = {"/etc": 0, "/etc/nginx": 0, "/etc/nginx/conf.d": 0, "/etc/nginx/templates": 0}
    assert own_folders(0, (), folders(tree, {"/etc/nginx/conf.d": (1, 99)})).folders == ()
    own = {**tree, "/docker-entrypoint.d": 0}
    sizes = {"/etc/nginx/conf.d": (1, 99), "/docker-entrypoint.d": (20, 9_999)}
    assert own_folders(0, (), folders(own, sizes)).folders == ("/etc/nginx/conf.d",)
    assert own_folders(0, ("/etc/nginx/conf.d",), folders(own, sizes)).folders == ()


@pytest.mark.parametrize("user", [0, 1000])
def test_folders_in_run_are_there(user: int) -> None:
    """Whoever's they are, as programs look for theirs; not those of systemd."""
    tree = {"/run": 0, "/run/php": 33, "/run/mysqld": 0, "/run/lock": 0, "/run/systemd": 0, "/run/mysqld/x": 0}
    assert own_folders(user, (), folders(tree)).folders == ("/run/mysqld", "/run/php")
    assert own_folders(user, ("/run/php",), folders(tree)).folders == ("/run/mysqld",)
