"""Makes one user's browsers trust the local CA, and undoes it, in the NSS databases below the user's home.

Only programs that run as that user read and write the databases: root writes to no path where a user could have put a
link.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flytectl.identity import Identity
from flytectl.trust import root_environment
from flyted.contract.errors import HostFailure

if TYPE_CHECKING:
    import pwd

NICKNAME = "flyted local CA"
CERTUTIL_PACKAGE = "libnss3-tools"

# crypto/nss_util.cc of Chromium: ~/.pki/nssdb if that folder is there, else (since 2025) $XDG_DATA_HOME/pki/nssdb.
_OLD, _NEW = ".pki/nssdb", ".local/share/pki/nssdb"


@dataclass(frozen=True)
class Browser:
    """A browser, or several with a common database.

    ``places``: glob patterns of the database's folder below a home. ``programs``: the programs that start them.
    """

    name: str
    places: tuple[str, ...]
    programs: tuple[str, ...]


BROWSERS = (
    Browser(
        "Chromium",
        (
            _OLD,
            _NEW,
            "snap/chromium/current/.pki/nssdb",
            "snap/chromium/current/.local/share/pki/nssdb",
            ".var/app/*/.pki/nssdb",
            ".var/app/*/data/pki/nssdb",
        ),
        (
            "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "brave-browser", "microsoft-edge",
            "vivaldi", "opera", "org.chromium.Chromium", "com.google.Chrome", "com.brave.Browser",
        ),
    ),
    Browser(
        "Firefox",
        (
            ".mozilla/firefox/*",
            ".config/mozilla/firefox/*",
            "snap/firefox/common/.mozilla/firefox/*",
            "snap/firefox/common/.config/mozilla/firefox/*",
            ".var/app/org.mozilla.firefox/.mozilla/firefox/*",
            ".var/app/org.mozilla.firefox/config/mozilla/firefox/*",
        ),
        ("firefox", "firefox-esr", "org.mozilla.firefox"),
    ),
)  # fmt: skip
_CHROMIUM_SANDBOXES = ("/snap/", "/flatpak/")  # their browsers have homes of their own, made at the first start


@dataclass(frozen=True)
class Found:
    """The database of a browser; ``made`` is false if the browser has not made it yet."""

    browser: str
    folder: Path
    made: bool = True


def stores(home: Path) -> list[Found]:
    """Return the databases that browsers have made below ``home``, by folder."""
    found = {
        folder: Found(browser.name, folder)
        for browser in BROWSERS
        for place in browser.places
        for folder in home.glob(place)
        if (folder / "cert9.db").is_file()
    }
    return sorted(found.values(), key=lambda each: each.folder)


def programs(browser: Browser, home: Path) -> list[str]:
    """Return the paths of the browser's programs that are installed for all users or below ``home``."""
    folders = (
        "/usr/local/bin", "/usr/bin", "/snap/bin", "/var/lib/flatpak/exports/bin",
        str(home / ".local/share/flatpak/exports/bin"),
    )  # fmt: skip
    paths = (os.path.join(folder, name) for folder in folders for name in browser.programs)  # noqa: PTH118
    return [path for path in paths if os.path.lexists(path)]


def unmade(home: Path, have: Iterable[Found]) -> tuple[list[Found], list[str]]:
    """Find the installed browsers without a database: return (databases to make, browsers to be started first).

    The Chromium of a Debian package has one database for all profiles, which can be made here. Firefox has to make its
    profile, whose name it chooses, and snaps and flatpaks have to make their homes.
    """
    known = {each.browser for each in have}
    make, start = [], []
    for browser in BROWSERS:
        there = programs(browser, home)
        if browser.name in known or not there:
            continue
        if browser.name == "Chromium" and not all(any(s in path for s in _CHROMIUM_SANDBOXES) for path in there):
            make.append(Found(browser.name, home / (_OLD if (home / _OLD).is_dir() else _NEW), made=False))
        else:
            start.append(browser.name)
    return make, start


def have_certutil() -> bool:
    """Report whether certutil, the program that changes NSS databases, is installed."""
    return shutil.which("certutil", path="/usr/bin:/bin") is not None


def trust_in(store: Found, user: pwd.struct_passwd, pem: str) -> None:
    """Add the CA to one database, as its owner, and make the database if it is missing.

    Raise :class:`HostFailure` if that fails.
    """
    if not store.made:
        _as_user(user, ["/usr/bin/mkdir", "-p", "-m", "700", str(store.folder)], store.folder)
        _certutil(store.folder, user, ["-N", "--empty-password"])
    distrust_in(store.folder, user)  # an older CA of the same name would take precedence
    _certutil(store.folder, user, ["-A", "-n", NICKNAME, "-t", "C,,", "-a"], pem)


def distrust_in(folder: Path, user: pwd.struct_passwd) -> bool:
    """Remove the CA from one database; report whether it was there. Raise :class:`HostFailure` if that fails."""
    if NICKNAME not in _certutil(folder, user, ["-L"]):  # its error for a name would not say why
        return False
    _certutil(folder, user, ["-D", "-n", NICKNAME])
    return True


def trusted_in(folder: Path, pem: str) -> bool:
    """Report whether a database of the calling user contains this CA."""
    done = subprocess.run(
        ["/usr/bin/certutil", "-L", "-n", NICKNAME, "-a", "-d", f"sql:{folder}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode == 0 and "".join(pem.split()) in "".join(done.stdout.split())


def _certutil(folder: Path, user: pwd.struct_passwd, words: list[str], text: str = "") -> str:
    return _as_user(user, ["/usr/bin/certutil", *words, "-d", f"sql:{folder}"], folder, text)


def _as_user(user: pwd.struct_passwd, command: list[str], folder: Path, text: str = "") -> str:
    """Run a program for a database's ``folder``; return its output. Raise :class:`HostFailure` if it fails."""
    become = Identity(user.pw_name, user.pw_uid, user.pw_gid, (), user.pw_dir, user.pw_shell)
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, input=text, text=True, capture_output=True, check=False, cwd="/",
        env={**root_environment(), "HOME": user.pw_dir}, **{**become.drop(), "umask": 0o077},
    )  # fmt: skip
    if done.returncode:
        program = Path(command[0]).name
        said = (done.stderr.strip() or "no reason given").split("\n")[-1].removeprefix(f"{program}: ")
        raise HostFailure(
            f"{program} failed for {folder}: {said}",
            hint=f"make it writable for {user.pw_name}, close the browser, then run the command again",
        )
    return done.stdout
