"""From where a Debian is installed: the machine's own apt sources, as its apt reads them, from a real repository."""

from __future__ import annotations

import functools
import hashlib
import http.server
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flyted.layers import debian
from flyted.layers.words import KEYRING

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/usr/bin/apt-get").exists(), reason="this system has no apt"),
]
SUITES = ("trixie", "trixie-updates", "trixie-security", "bookworm")
PACKAGES = b"Package: a\nVersion: 1\nArchitecture: all\nFilename: a.deb\nSize: 1\nSHA256: aa\n\n"
CONFIGURATION = """
Dir "{folder}/apt";
Dir::State::status "/dev/null";
APT::Sandbox::User "root";
APT::Architecture "amd64"; APT::Architectures {{ "amd64"; }};
Acquire::Retries "0";
"""


@dataclass
class Machine:
    """A system with sources of its own, and a server with Debian's repositories and somebody else's."""

    folder: Path
    port: int
    served: Path

    @property
    def mirror(self) -> str:
        return f"http://127.0.0.1:{self.port}/debian/"

    def has(self, text: str, name: str = "machine.list") -> None:
        """Let these be its sources, and fetch their indexes as far as there are any."""
        file = self.folder / "apt/etc/apt/sources.list.d" / name
        file.write_text(
            text.format(
                mirror=self.mirror, other=self.mirror.replace("debian", "other"), at=self.folder, served=self.served
            )
        )
        subprocess.run(["apt-get", "update", "-q"], check=False, capture_output=True)


def _repository(folder: Path, suite: str, origin: str) -> None:
    lines = [f"Origin: {origin}", f"Suite: {suite}", f"Codename: {suite}", "Date: Mon, 01 Jan 2024 00:00:00 UTC"]
    lines += ["Architectures: amd64", "Components: main contrib", "SHA256:"]
    for component in ("main", "contrib"):
        name = f"{component}/binary-amd64/Packages"
        file = folder / "dists" / suite / name
        file.parent.mkdir(parents=True)
        file.write_bytes(PACKAGES)
        lines.append(f" {hashlib.sha256(PACKAGES).hexdigest()} {len(PACKAGES)} {name}")
    (folder / "dists" / suite / "Release").write_text("\n".join([*lines, ""]))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A server whose /debian has Debian's repositories, and /other those of a company; its port and folder."""
    folder = tmp_path_factory.mktemp("server")
    for suite in SUITES:
        _repository(folder / "debian", suite, "Debian")
    _repository(folder / "other", "trixie", "Acme")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_words: object) -> None:
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield serving.server_address[1], folder
    serving.shutdown()
    serving.server_close()


@pytest.fixture
def machine(tmp_path: Path, server: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine without sources."""
    folders = ("etc/apt/sources.list.d", "etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d")
    for name in (*folders, "var/lib/apt/lists/partial", "var/cache/apt/archives/partial"):
        (tmp_path / "apt" / name).mkdir(parents=True)
    (tmp_path / "apt.conf").write_text(CONFIGURATION.format(folder=tmp_path))
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return Machine(tmp_path, *server)


ONE_LINE = "".join(
    f"deb [{{options}}] {{{{mirror}}}} {suite} main contrib\n"
    for suite in ("trixie", "trixie-updates", "trixie-security")
)
DEB822 = f"""Types: deb deb-src
URIs: {{mirror}}
Suites: trixie trixie-updates trixie-security
Components: main contrib
Trusted: yes
Signed-By: {KEYRING}
"""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (ONE_LINE.format(options="trusted=yes"), "a.list"),
        (ONE_LINE.format(options=f"arch=amd64 trusted=yes signed-by={KEYRING}"), "a.list"),
        (DEB822, "a.sources"),
    ],
    ids=["one-line", "signed-by", "deb822"],
)  # fmt: skip
def test_the_suite_of_the_machine(machine: Machine, text: str, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Its updates and its security updates too, each once; of the components only main."""
    machine.has(text, name)
    mirror = machine.mirror
    assert sorted(debian._sources("trixie")) == [
        f"deb {mirror} trixie main", f"deb {mirror} trixie-security main", f"deb {mirror} trixie-updates main",
    ]  # fmt: skip
    assert capfd.readouterr().out == ""


def test_another_suite_than_the_machines(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    """Its mirror has that too; not the one of security updates alone. That is said."""
    machine.has("deb [trusted=yes] {mirror}./ trixie-security main\ndeb [trusted=yes] {mirror} trixie main\n")
    assert debian._sources("bookworm") == [f"deb {machine.mirror} bookworm main"]
    assert f"no apt sources of bookworm: taking {machine.mirror}" in capfd.readouterr().out


def test_what_is_not_debians_is_not_taken(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    """Nor what has no main; then it is Debian's own mirror."""
    machine.has("deb [trusted=yes] {other} trixie main\ndeb [trusted=yes] {mirror} trixie contrib\n")
    assert debian._sources("trixie") == ["deb http://deb.debian.org/debian/ trixie main"]
    assert "taking http://deb.debian.org/debian/" in capfd.readouterr().out


def test_a_mirror_that_has_nothing(machine: Machine) -> None:
    """It answers 404, so that this machine has no index of it; the next one has."""
    machine.has("deb [trusted=yes] {mirror}none trixie main\ndeb [trusted=yes] {mirror} bookworm main\n")
    assert debian._sources("trixie") == [f"deb {machine.mirror} trixie main"]


def test_a_machine_without_sources(machine: Machine) -> None:
    assert debian._sources("trixie") == ["deb http://deb.debian.org/debian/ trixie main"]


def test_what_an_image_could_not_use(machine: Machine) -> None:
    """A folder of this machine, and what is written with a password, which would be in the layer."""
    login = machine.mirror.replace("//", "//alice:s3cret@")
    machine.has(f"deb [trusted=yes] {login} trixie main\n")
    assert debian._sources("trixie") == ["deb http://deb.debian.org/debian/ trixie main"]
    machine.has("deb [trusted=yes] file:{served}/debian trixie main\n")
    assert debian._sources("trixie") == ["deb http://deb.debian.org/debian/ trixie main"]


@pytest.mark.parametrize("broken", [False, True])
def test_a_list_of_mirrors(machine: Machine, *, broken: bool) -> None:
    """As in Debian's images for clouds. The image has no such file, so it gets the address of the first mirror."""
    mirrors = machine.folder / "mirrors"
    mirrors.write_text(f"{machine.mirror}\tpriority:1\n")
    machine.has("deb [trusted=yes] mirror+file:{at}/mirrors trixie main\n")
    mirrors.write_text(f"# Debian's\n\n{machine.mirror}\tpriority:1\nhttp://127.0.0.1:9/debian/\tpriority:2\n")
    if broken:
        mirrors.unlink()
    default = "http://deb.debian.org/debian/"
    assert debian._sources("trixie") == [f"deb {default if broken else machine.mirror} trixie main"]
