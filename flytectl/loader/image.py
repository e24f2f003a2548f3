"""Describes the image of an app as the SDK would to its remote builder: ImageSpec in protobuf-JSON."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import context, copies
from .failure import LoadError
from .sdk import find

if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
UV = "/usr/lib/flyted/bin"  # the SDK runs uv to describe a uv project
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
LARGEST_FILE = 1 << 20


class Described(NamedTuple):
    """An image. ``spec``: the ImageSpec in protobuf-JSON, or ``{"dockerfile": {"name": …, "text": …}}``.

    ``spec["registrySecret"]``: the secret of ``registry_secret=``, for which Flyte's ImageSpec has no field.
    ``files``: the text of each requirements file. ``folders``: path in the spec → bundle of what is there.
    """

    spec: dict[str, Any]
    files: dict[str, str]
    folders: dict[str, bytes]


def resolve(environment: Any, root: Path) -> Any:
    """Return the ``flyte.Image`` of an environment, or None, by the same rules as the SDK's app translation.

    Raise LoadError("unsupported") for an image of another platform, or a name that Flyte's config file has not.
    """
    image = environment.image
    kind = find("flyte", "Image")
    if image is None:
        return None
    if image == "auto":
        return kind.from_debian_base()
    if isinstance(image, str):
        return kind.from_base(image)
    image = _named(environment, image)
    _check_platform(environment, image)
    return find("flyte._image", "resolve_code_bundle_layer")(image, "loaded_modules", root)


def _named(environment: Any, image: Any) -> Any:
    """Return the image of ``Image.from_ref_name``, by the names in Flyte's config file (flyte/_deploy.py).

    Raise LoadError("unsupported") for a name that is not there.
    """
    reference = getattr(image, "_ref_name", None)
    if reference is None:
        return image
    known = find("flyte.config", "auto")().image.image_refs
    if reference not in known:
        raise LoadError(
            "unsupported",
            f"{environment.name}: Image.from_ref_name({reference!r}) is not an image of Flyte's config file",
            hint=f"known: {', '.join(sorted(known)) or 'none'}; add one to image.image_refs in .flyte/config.yaml",
        )
    found = image.clone(base_image=known[reference])
    object.__setattr__(found, "_ref_name", None)  # else the SDK asks for an image that it built itself
    return found


def _check_platform(environment: Any, image: Any) -> None:
    """Raise LoadError("unsupported") if the image is for other platforms than this machine's.

    The SDK's description of an image for a remote builder has no platform.
    """
    own = MACHINES.get(platform.machine(), platform.machine())
    asked = tuple(getattr(image, "platform", None) or ())
    if asked and own not in asked:
        raise LoadError(
            "unsupported",
            f"{environment.name}: the image is for {', '.join(asked)} (platform=); this machine is {own}",
            hint="remove platform= from the image",
        )


def describe(environment: Any, image: Any) -> Described:
    """Return what the image is made of, and what its layers copy.

    Raise LoadError("unsupported") for a file that is too large or not UTF-8; LoadError("environment") for a missing
    file, or if the SDK cannot describe the image; LoadError("bundle") if its files are too large or cannot be packed.
    """
    described = _described(environment, image)
    secret = getattr(image, "_image_registry_secret", None)
    if secret is None:
        return described
    named = {"key": secret.key, **({"group": secret.group} if secret.group else {})}
    return described._replace(spec={**described.spec, "registrySecret": named})


def _described(environment: Any, image: Any) -> Described:
    if getattr(image, "dockerfile", None) is not None:
        return _dockerfile(environment, Path(image.dockerfile))
    for layer in getattr(image, "_layers", ()):
        if type(layer).__name__ == "Requirements":
            _find_beside(environment, layer)
        if lines := [line for line in getattr(layer, "lines", ()) if not line.lstrip().upper().startswith("LABEL")]:
            what = f"the line {lines[0][:60]!r} of a Dockerfile"
            raise _refused(environment, what, "the SDK does not send it to a builder", "use with_commands([…])")
    copies.check(environment, image)
    layers_proto = find("flyte._internal.imagebuild.remote_builder", "_get_layers_proto")
    to_dict = find("google.protobuf.json_format", "MessageToDict")
    with tempfile.TemporaryDirectory(prefix="flytectl-image-") as folder:
        place, own = Path(folder, "context"), Path(folder, "tmp")
        try:
            with _uv_on_path(), copies.bounded(environment), copies.own_tmp(place, own):
                spec = to_dict(layers_proto(image, place))
        except LoadError:
            raise
        except Exception as error:
            raise LoadError("environment", f"{environment.name}: the image cannot be described: {error}") from error
        copies.name_as_in_tmp(spec, place, own)
        folders = context.of_spec(spec, place)
        wanted = [layer["requirements"]["file"] for layer in spec.get("layers", []) if "requirements" in layer]
        return Described(spec, {name: _text(environment, place / name, name) for name in wanted}, folders)


def _dockerfile(environment: Any, file: Path) -> Described:
    if not file.is_file():
        raise LoadError(
            "environment",
            f"{environment.name}: the Dockerfile {file} does not exist in {Path.cwd()}",
            hint='use a path from the file itself: Path(__file__).parent / "Dockerfile"',
        )
    text = _text(environment, file, file.name)
    beside = [file.with_name(f"{file.name}.dockerignore"), file.parent / ".dockerignore"]
    ignored = next((_text(environment, each, each.name) for each in beside if each.is_file()), "")
    patterns = [line.strip() for line in ignored.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return Described(
        {"dockerfile": {"name": file.name, "text": text}}, {}, context.of_dockerfile(text, file.parent, patterns)
    )


@contextlib.contextmanager
def _uv_on_path() -> Iterator[None]:
    """Let the SDK find flyted's uv behind the user's own, and let either one trust what the system trusts."""
    more = {"PATH": f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{UV}"}
    if CERTIFICATES.exists():  # for a company's own CA, as where packages are installed (flytectl/pythons.py)
        more["UV_SYSTEM_CERTS"] = os.environ.get("UV_SYSTEM_CERTS", "1")
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _find_beside(environment: Any, layer: Any) -> None:
    """Look for a requirements file beside the file of the environment if it is not in the working directory.

    The SDK reads it from the working directory only, but ``include=`` from beside the file. Raise
    LoadError("environment") if it is in neither.
    """
    file = Path(layer.file)
    beside = Path(getattr(environment, "_declaring_file", None) or ".").parent / file
    if file.exists():
        return
    if not beside.exists():
        raise LoadError(
            "environment",
            f"{environment.name}: requirements file {file} is neither in {Path.cwd()} nor in {beside.parent}",
            hint="with_requirements(…) takes a path relative to one of these folders",
        )
    object.__setattr__(layer, "file", Path(os.path.relpath(beside)))


def _text(environment: Any, file: Path, name: str) -> str:
    if file.stat().st_size > LARGEST_FILE:
        raise _refused(environment, f"the image file {name}", "it is larger than 1 MiB")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _refused(environment, f"the image file {name}", "it is not UTF-8 text") from error


def _refused(environment: Any, what: str, why: str, hint: str = "") -> LoadError:
    return LoadError(
        "unsupported",
        f"{environment.name}: {what} is not supported: {why}",
        hint=hint
        or "use Image.from_debian_base().with_pip_packages(…), or --python-env DIR for an environment of your own",
    )
