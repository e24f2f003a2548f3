"""Describes the image of an app as the SDK would to its remote builder: ImageSpec in protobuf-JSON."""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path
from typing import Any

from .failure import LoadError
from .sdk import find

# Layers that copy whole folders into the build; each is refused with the name of the method that made it.
FOLDER_LAYERS = {
    "CopyConfig": "with_source_file / with_source_folder",
    "PythonWheels": "with_local_v2 / local wheels",
    "PixiProject": "with_pixi_project",
    "PixiScript": "from_pixi_script",
}
MACHINES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
# The SDK needs uv on the path to describe these layers, which are refused in any case.
PROJECTS = {"UVProject": "with_uv_project", "PoetryProject": "with_poetry_project"}
PROJECT_HINT = 'list its packages: with_requirements("requirements.txt"), made by uv export --no-emit-project'
LARGEST_FILE = 1 << 20


def resolve(environment: Any, root: Path) -> Any:
    """Return the ``flyte.Image`` of an environment, or None, by the same rules as the SDK's app translation.

    Raise LoadError("unsupported") for an image that needs a registry, Docker or another platform.
    """
    image = environment.image
    kind = find("flyte", "Image")
    if image is None:
        return None
    if image == "auto":
        return kind.from_debian_base()
    if isinstance(image, str):
        return kind.from_base(image)
    reference = getattr(image, "_ref_name", None)
    if reference is not None:
        raise _refused(environment, f"Image.from_ref_name({reference!r})", "flyted has no image registry")
    _check_platform(environment, image)
    if getattr(image, "dockerfile", None) is not None:
        raise _refused(environment, "Image.from_dockerfile", "flyted runs no containers")
    return find("flyte._image", "resolve_code_bundle_layer")(image, "loaded_modules", root)


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


def describe(environment: Any, image: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the ImageSpec in JSON, and the name → text of each file that a layer names.

    Raise LoadError("unsupported") for a layer that copies folders or cannot be built here, and for a file that is too
    large or not UTF-8; LoadError("environment") for a missing file, or if the SDK cannot describe the image.
    """
    for layer in getattr(image, "_layers", ()):
        name = type(layer).__name__
        if name == "UVScript":
            script = f"Image.from_uv_script({Path(layer.script).name!r})"
            raise _refused(environment, script, "its base is a container image; flyted runs no containers")
        if name in PROJECTS:
            raise _refused(environment, PROJECTS[name], "flyted does not read project files yet", PROJECT_HINT)
        if name == "Requirements":
            _find_beside(environment, layer)
        whole = getattr(layer, "project_install_mode", "") == "install_project"
        if name in FOLDER_LAYERS or whole:
            what = FOLDER_LAYERS.get(name, f"{name} with project_install_mode='install_project'")
            raise _refused(environment, what, "flyted does not build layers that copy folders into an image yet")
    layers_proto = find("flyte._internal.imagebuild.remote_builder", "_get_layers_proto")
    to_dict = find("google.protobuf.json_format", "MessageToDict")
    with tempfile.TemporaryDirectory(prefix="flytectl-image-") as context:
        try:
            spec = to_dict(layers_proto(image, Path(context)))
        except Exception as error:
            raise LoadError("environment", f"{environment.name}: the image cannot be described: {error}") from error
        return spec, _files(environment, Path(context))


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


def _files(environment: Any, context: Path) -> dict[str, str]:
    texts = {}
    for file in sorted(context.rglob("*")):
        if file.is_file():
            name = file.relative_to(context).as_posix()
            if file.stat().st_size > LARGEST_FILE:
                raise _refused(environment, f"the image file {name}", "it is larger than 1 MiB")
            try:
                texts[name] = file.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise _refused(environment, f"the image file {name}", "it is not UTF-8 text") from error
    return texts


def _refused(environment: Any, what: str, why: str, hint: str = "") -> LoadError:
    return LoadError(
        "unsupported",
        f"{environment.name}: {what} is not supported: {why}",
        hint=hint
        or "use Image.from_debian_base().with_pip_packages(…), or --python-env DIR for an environment of your own",
    )
