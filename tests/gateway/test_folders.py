"""What an image copies, by the SDK's remote builder: the same bundles as flytectl makes, and archives that attack."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import tarfile
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from connectrpc.errors import ConnectError
from flyteidl2.app import app_payload_pb2
from flyteidl2.imagebuilder import definition_pb2 as definition

from flyted.contract.errors import HostFailure, InvalidInput, NotFound
from flyted.gateway.files import archive as archive_module
from flyted.gateway.files import context
from flyted.gateway.files import folders as folders_module
from flyted.gateway.files.folders import Folders
from flyted.gateway.files.recipes import Recipes
from flyted.gateway.files.whole import opened
from tests.answers import app_status
from tests.flytectl.loading import needs_sdk, write
from tests.flytectl.test_load_images import load_with
from tests.gateway.clients import ask, service
from tests.gateway.described import app
from tests.gateway.harness import Running
from tests.gateway.test_image_contexts import link
from tests.gateway.test_images import NAME, archive, building, create, found, keep, spec, there
from tests.plan.roots import WITH_UV
from tests.projects import editable_project

pytestmark = pytest.mark.slow

COPY = definition.Layer(copy_config=definition.CopyConfig(src="src", dst="/srv"))


def read(place: Path, layers: list[definition.Layer], tar_gz: bytes) -> dict[str, Any]:
    """The image as flyted gets it; its bundles are in ``place / "folders"``."""
    (place / "spec.pb").write_bytes(spec(*layers))
    (place / "context").write_bytes(tar_gz)
    return context.image_of(place / "spec.pb", place / "context", Folders(place / "folders"))


def names_in(place: Path, digest: str) -> dict[str, bytes | str]:
    data = (place / "folders" / f"{digest}.tar.gz").read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        return {each.name: each.linkname if each.issym() else tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]


IMAGES = {
    "folder and file": '.with_source_folder(HERE / "data").with_source_file(HERE / "data/a.txt", "/etc/")',
    "wheels": '.clone(addl_layer=PythonWheels(wheel_dir=HERE / "dist", package_name="pkg"))',
    "poetry": '.with_poetry_project(HERE / "p/pyproject.toml")',
    "poetry, installed": '.with_poetry_project(HERE / "p/pyproject.toml", project_install_mode="install_project")',
    "uv": '.with_uv_project(HERE / "p/pyproject.toml")',
    "uv, installed": '.with_uv_project(HERE / "p/pyproject.toml", project_install_mode="install_project")',
    "pixi": ".with_pixi_project(HERE)",
    "pixi, installed": '.with_pixi_project(HERE / "px", project_install_mode="install_project")',
    "pixi script": '.clone(addl_layer=PixiScript(script=HERE / "s.py"))',
    "requirements": '.with_requirements(HERE / "r.txt")',
    "more than a request carries": "".join(f'.with_source_file(HERE / "many/f{n}", "/")' for n in range(40)),
}


@needs_sdk
@pytest.mark.parametrize("name", IMAGES)
def test_the_bundles_are_those_of_flytectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Byte for byte, so that both make the same layers; what the SDK writes and packs is the SDK's own."""
    from flyte._internal.imagebuild import remote_builder

    monkeypatch.setenv("PATH", WITH_UV)
    for path, text in {
        "data/a.txt": "a", "data/deep/b.sh": "b" * 300_000, "data/deep/\u00fcn.txt": "\u00fc",
        f"data/{'n' * 120}/{'m' * 120}": "long names", "dist/pkg-1-py3-none-any.whl": "wheel",
        "p/pyproject.toml": editable_project("p", "lib"), "p/poetry.lock": "", "p/src/p.py": "", "r.txt": "six\n",
        "lib/pyproject.toml": '[project]\nname = "lib"\nversion = "1"\nrequires-python = ">=3.10"\n', "lib/lib.py": "",
        "pixi.toml": '[workspace]\nchannels = ["conda-forge"]\nplatforms = ["linux-64"]\n',
        "px/pixi.toml": "[workspace]\n", "px/pixi.lock": "", "px/src/px.py": "",
        "s.py": '# /// script\n# requires-python = ">=3.12"\n# ///\n',
        **{f"many/f{n}": f"{n}" for n in range(40)},
    }.items():  # fmt: skip
        write(tmp_path, path, text)
    (tmp_path / "data/deep/b.sh").chmod(0o755)
    (tmp_path / "data/random").write_bytes(os.urandom(3 << 20))
    imports = "from flyte._image import PixiScript, PythonWheels"
    for _ in range(2):  # at the first time uv writes uv.lock, which is sent from then on
        with load_with(tmp_path, f"flyte.Image.from_debian_base(){IMAGES[name]}", imports) as loaded:
            (made,) = loaded.apps
    scope: dict[str, Any] = {"HERE": tmp_path}
    exec(f"import flyte\n{imports}\nimage = flyte.Image.from_debian_base(){IMAGES[name]}", scope)
    sent: dict[str, Path] = {}

    async def upload(file: Path) -> tuple[str, str]:
        sent[file.name] = Path(file)
        return "", file.name

    monkeypatch.setattr(remote_builder, "remote", types.SimpleNamespace(upload_file=types.SimpleNamespace(aio=upload)))
    asyncio.run(remote_builder._validate_configuration(scope["image"]))
    image = context.image_of(sent["spec.pb"], sent["context.tar.gz"], Folders(tmp_path / "folders"))
    assert image["folders"] == made.image_folders
    assert bool(image["folders"]) == (name != "requirements")
    assert image["spec"] == made.image
    assert image["files"] == made.image_files
    for digest in image["folders"].values():
        assert names_in(tmp_path, digest)


def test_a_build_brings_what_its_image_copies_and_so_does_each_deploy(gateway: Running) -> None:
    """flyted keeps it for as long as it needs it, and a client may deploy long after the build."""
    building(gateway).set()
    files = {"src/a.py": b"a", "src/deep/b": b"b", "other": b"x"}
    uploaded = {"spec": keep(gateway, "spec.pb", spec(COPY)), "context": keep(gateway, "c.tar.gz", archive(files))}
    create(gateway, **uploaded, target_image=NAME)
    sent = next(args for verb, args, _ in gateway.flyted.calls if verb == "image.build")
    (digest,) = sent["bundles"]
    assert sent["image"]["folders"] == {"src": digest}
    assert hashlib.sha256(gateway.flyted.files.pop(digest)).hexdigest() == digest
    there(gateway)
    uri = found(gateway).image.fqin
    gateway.flyted.answers("app.serve", {"result": {"app": app_status(), "changed": False}})
    apps = service(gateway, "app.app_service_connect", "AppService")
    ask(apps.create, app_payload_pb2.CreateRequest(app=app(image=uri)))
    args = gateway.flyted.calls[-1][1]
    assert args["spec"]["image"]["folders"] == {"src": digest}
    assert digest in args["bundles"]
    assert digest in gateway.flyted.files
    (gateway.state / "folders" / f"{digest}.tar.gz").unlink()
    with pytest.raises(ConnectError, match="has not been built"):
        found(gateway)  # so the SDK builds it again, and sends the files
    with pytest.raises(ConnectError, match="serve the app again to build it"):
        ask(apps.create, app_payload_pb2.CreateRequest(app=app(image=uri)))


def device(kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo()
    member.type, member.devmajor, member.devminor = kind, 1, 3
    return member


def sized(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """An archive whose only header says more than there is."""
    member = tarfile.TarInfo("src/a")
    member.size, member.type = size, kind
    return gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def with_pax(**fields: str) -> bytes:
    member = tarfile.TarInfo("src/a")
    member.pax_headers = fields
    return gzip.compress(member.tobuf(tarfile.PAX_FORMAT) + bytes(1024))


def chained(count: int) -> bytes:
    """Headers that each announce the next."""
    member = tarfile.TarInfo("src/a")
    member.type, member.size = tarfile.XHDTYPE, 0
    return gzip.compress(member.tobuf(tarfile.GNU_FORMAT) * count)


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "absolute": (lambda: archive({"/etc/passwd": b"x"}), "is not below the folder"),
    "above": (lambda: archive({"src/../../x": b"x"}), "is not below the folder"),
    "the folder above": (lambda: archive({"..": b"x"}), "is not below the folder"),
    "hard link": (lambda: archive({"src/a": link(tarfile.LNKTYPE, "/etc/shadow")}), "is neither a file"),
    "device": (lambda: archive({"src/a": device(tarfile.CHRTYPE)}), "is neither a file"),
    "disk": (lambda: archive({"src/a": device(tarfile.BLKTYPE)}), "is neither a file"),
    "pipe": (lambda: archive({"src/a": device(tarfile.FIFOTYPE)}), "is neither a file"),
    "a file below a link": (
        lambda: archive({"src/a": link(tarfile.SYMTYPE, "/etc"), "src/a/b": b"x"}), "is a file and a folder"
    ),
    "too deep": (lambda: archive({f"src/{'d/' * 200}a": b"x"}), "folders deep"),
    "too many": (lambda: archive({f"src/{n}": b"" for n in range(30)}), "more than 20"),
    "bomb": (lambda: gzip.compress(bytes(2 << 20)), "more than 1 MiB"),
    "cut off": (lambda: sized(1 << 30), "is cut off|not a tar archive"),
    "1 TB, sparse": (lambda: sized(1 << 40, tarfile.GNUTYPE_SPARSE), "is neither a file|not a tar archive"),
    "sparse by its header": (
        lambda: with_pax(**{"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1",
                            "GNU.sparse.size": "1099511627776"}), "is neither a file|not a tar archive",
    ),
    "a negative size": (lambda: with_pax(size="-512"), "is cut off|not a tar archive"),
    "no number": (lambda: with_pax(mtime="x", size="y"), "is cut off|not a tar archive|neither"),
    "a long name's size": (lambda: sized(1 << 33, tarfile.GNUTYPE_LONGNAME), "not a tar archive"),
    "a header's size": (lambda: sized(1 << 20, tarfile.XHDTYPE), "not a tar archive"),
    "endless headers": (lambda: chained(2000), "not a tar archive"),
    "an upload that ended early": (lambda: archive({"src/a": b"x" * 99})[:-9], "their gzip data ends early"),
    "nothing": (lambda: b"", "their gzip data ends early"),
    "no gzip": (lambda: b"PK\x03\x04 a zip file", "are not gzip data, or are damaged"),
    "gzip of something else": (lambda: gzip.compress(b"x" * 2000), "not a tar archive"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_an_archive_that_attacks_is_refused_by_the_name_of_its_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Before a bundle is made, and nothing is left."""
    make, words = HOSTILE[name]
    data = make()
    if name == "too many":
        monkeypatch.setattr(archive_module, "MEMBERS", 20)
    if name == "bomb":
        monkeypatch.setattr(archive_module, "UNPACKED_BYTES", 1 << 20)
    if name != "no number":
        with pytest.raises(InvalidInput, match=words):
            read(tmp_path, [COPY], data)
    else:  # tarfile takes such a number for none
        assert set(read(tmp_path, [COPY], data)["folders"]) == {"src"}
        return
    assert list((tmp_path / "folders").iterdir()) == []


def test_odd_names_and_links_are_passed_on_as_they_are(tmp_path: Path) -> None:
    """The unit that unpacks them goes by descriptors, and its root is the image; here they are only words."""
    odd: dict[str, bytes | tarfile.TarInfo] = {
        "src/new\nline": b"1",
        "src/\udcff": b"2",
        "src/-rf": b"3",
        "src/out": link(tarfile.SYMTYPE, "../../etc"),
    }
    image = read(tmp_path, [COPY], archive(odd))
    content = names_in(tmp_path, image["folders"]["src"])
    assert content == {"src/new\nline": b"1", "src/\udcff": b"2", "src/-rf": b"3", "src/out": "../../etc"}


@pytest.mark.parametrize("source", ["", ".", "..", "/", "/etc", "../../etc", "sr", "src/a/b", "src\n"])
def test_a_layer_that_names_what_was_not_sent_gets_nothing(tmp_path: Path, source: str) -> None:
    """flyted then says what is missing; ``.`` is all that was sent."""
    layer = definition.Layer(copy_config=definition.CopyConfig(src=source, dst="/"))
    folders = read(tmp_path, [layer], archive({"src/a": b"a"}))["folders"]
    assert set(folders) == ({"."} if source == "." else set())


def test_the_bundles_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were used last stay; what was being written when a process ended goes."""
    folders = Folders(tmp_path / "folders")
    kept = []
    for number in range(3):
        files = {"src/a": os.urandom(5000)}
        kept.append(read(tmp_path, [COPY], archive(files))["folders"]["src"])
        os.utime(tmp_path / "folders" / f"{kept[-1]}.tar.gz", (number, number))
    assert folders.find(kept[0]) is not None
    monkeypatch.setattr(folders_module, "TOTAL_BYTES", 12_000)
    new = read(tmp_path, [COPY], archive({"src/a": b"a"}))["folders"]["src"]
    assert [folders.find(digest) is not None for digest in (*kept, new)] == [True, False, True, True]
    (tmp_path / "folders/.x.part").write_bytes(b"half")
    Folders(tmp_path / "folders")
    assert not (tmp_path / "folders/.x.part").exists()


def test_a_full_disk_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the archive is unpacked, too; it is a fault of the machine, and not of the archive."""
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("r+b"))  # noqa: SIM115
    with pytest.raises(HostFailure, match="cannot store what the image copies: the disk is full"):
        read(tmp_path, [COPY], archive({"src/a": os.urandom(1 << 20)}))


def test_a_recipe_whose_files_are_gone_is_not_known(tmp_path: Path) -> None:
    """A deploy would else be refused by flyted, which the client cannot mend."""
    recipes = Recipes(tmp_path / "recipes", Folders(tmp_path / "folders"))
    image = read(tmp_path, [COPY], archive({"src/a": b"a"}))
    recipes.keep(NAME, image, "ab" * 16)
    assert recipes.find(NAME) == image
    (path,) = recipes.bundles(image).values()
    path.unlink()
    assert recipes.find(NAME) is None
    with pytest.raises(NotFound, match="is gone"), opened({"x": path}):
        raise AssertionError


def test_descriptors_are_closed_when_a_later_file_is_gone(tmp_path: Path) -> None:
    """As all are in the end."""
    (tmp_path / "a").touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(NotFound), opened({"a": tmp_path / "a", "b": tmp_path / "b"}):
        raise AssertionError
    with opened({"a": tmp_path / "a"}) as fds:
        assert len(fds) == 1
    assert len(list(Path("/proc/self/fd").iterdir())) == before
