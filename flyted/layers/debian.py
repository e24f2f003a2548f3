"""Makes the layer of a step that installs a Debian, by mmdebstrap(1) and from the machine's own apt sources."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from . import command, enter, kernel, overlay, view
from .failed import Failed, say
from .job import Debian
from .words import DIFF, EX_UNAVAILABLE, KEYRING, MMDEBSTRAP, PATH

_DEFAULT = "http://deb.debian.org/debian/"
_FORMAT = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
_LIST = "mirror+file:"
_LEFT_OUT = "check/empty,chroot/mount,setup/mknod,output/mknod,output/dev"
"""What mmdebstrap would do with rights that no step has. It finds its devices in place, and makes the links itself."""
_POLICY = "#!/bin/sh\nexit 101\n"
_APT_CONF, _OURS = "/tmp/apt.conf", "99mmdebstrap"  # noqa: S108  a /tmp of the step's own
_BIN = "/tmp/bin"  # noqa: S108
_STAND_INS = {"mount": "true", "unshare": "false"}
"""Programs that mmdebstrap runs although it is to mount nothing. No step may use them, and they would print errors."""


def install(layer: str, step: Debian) -> None:
    """Install ``step`` into the layer. The working folder is the one of all layers. Raises :class:`Failed`."""
    if not os.access(MMDEBSTRAP, os.X_OK) or not os.access(KEYRING, os.R_OK):
        raise Failed(
            EX_UNAVAILABLE,
            "a Debian cannot be installed without mmdebstrap: sudo apt install mmdebstrap debian-archive-keyring",
        )
    layers = os.path.realpath(".")
    overlay.own_tmp()
    Path(overlay.ROOT).mkdir()
    kernel.bind(f"{layer}/{DIFF}", overlay.ROOT, writable=True)
    kernel.mount("tmpfs", layers, "tmpfs", kernel.RDONLY, "size=4k")  # no other layer is seen
    os.chdir("/")
    Path(overlay.ROOT, "dev").mkdir()
    view.devices(overlay.ROOT)
    Path(_APT_CONF).write_bytes(view.apt_settings(['Acquire::Languages "none";']))
    os.mkdir(_BIN)
    for name, program in _STAND_INS.items():
        os.symlink(f"/usr/bin/{program}", f"{_BIN}/{name}")
    sources = _sources(step.suite)
    enter.confine()
    command.run(
        [
            MMDEBSTRAP, "--quiet", "--mode=root", "--variant=minbase", f"--skip={_LEFT_OUT}", f"--keyring={KEYRING}",
            f"--aptopt={_APT_CONF}", "--dpkgopt=force-unsafe-io",
            "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
            *([f"--include={','.join(step.packages)}"] if step.packages else []),
            step.suite, overlay.ROOT, *sources,
        ],
        {"PATH": f"{_BIN}:{PATH}", "HOME": "/tmp", "LANG": "C.UTF-8", "TMPDIR": "/tmp"},  # noqa: S108
        f"Debian {step.suite}",
    )  # fmt: skip
    _settle(Path(overlay.ROOT))


def _settle(root: Path) -> None:
    """Leave nothing of this machine in the image but its apt sources, and let no package start a service."""
    (root / "etc/apt/apt.conf.d" / _OURS).write_text('Acquire::Languages "none";\n')
    for name in ("etc/resolv.conf", "etc/hostname"):
        (root / name).unlink(missing_ok=True)
    for path in (root / "tmp").iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (root / "root").chmod(0o755)  # apps are not root, and may have to reach files there
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text(_POLICY)
    policy.chmod(0o755)


def _sources(suite: str) -> list[str]:
    """Return the lines of sources.list(5) for this suite, from the machine's own sources as far as these have it."""
    wanted = (suite, f"{suite}-updates", f"{suite}-security")
    found = list(_repositories())
    if any(release == suite for _uri, release in found):
        return list(dict.fromkeys(f"deb {uri} {release} main" for uri, release in found if release in wanted))
    mirror = next((uri for uri, release in found if not release.endswith("-security")), _DEFAULT)
    say(f"this machine has no apt sources of {suite}: taking {mirror}")
    return [f"deb {mirror} {suite} main"]


def _repositories() -> Iterator[tuple[str, str]]:
    """Yield address and suite of each of Debian's own repositories that this machine has indexes of."""
    words = ["/usr/bin/apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages", "Origin: Debian"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    for row in (line.split() for line in done.stdout.splitlines()):
        if len(row) == 3 and row[2] == "main" and (uri := _address(row[0])):
            yield uri, row[1]


def _address(uri: str) -> str:
    """Return where an image gets what a source of this machine's has; "" if it cannot.

    Files and discs are not in the image, and a password must not be. Debian's images for clouds have lists of mirrors
    (apt-transport-mirror(1)), of which the first one is taken.
    """
    if uri.startswith(_LIST):
        try:
            lines = Path(uri.removeprefix(_LIST).rstrip("/")).read_text(errors="replace").splitlines()
        except OSError:
            return ""
        uri = next((line.split()[0] for line in lines if line.strip() and not line.startswith("#")), "")
    found = urlsplit(uri)
    return uri if found.scheme in ("http", "https") and "@" not in found.netloc else ""
