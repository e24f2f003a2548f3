"""Secrets of a build: by name in a recipe, as credentials of its unit, and in no message."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract.app import SecretUse
from flyted.contract.errors import FlytedError, InvalidInput, Unsupported
from flyted.plan.images.build_secrets import spelled, variable
from flyted.plan.images.build_unit import BuildSettings, build_unit
from flyted.plan.images.layers import plan_of
from flyted.plan.images.recipe import Machine, recipe_hash
from flyted.plan.images.root import RootRecipe
from flyted.plan.images.spec import image_from_spec, recipe_from_spec

BASE = {"baseImage": "ghcr.io/flyteorg/flyte:py3.13-v2.12.1", "pythonVersion": "3.13"}
TOKEN = {"key": "index-token", "mountRequirement": "ENV_VAR", "envVar": "TOKEN"}
HERE = Machine("x86_64", "glibc 2.41", "3.13")


def image(*mounts: dict[str, Any], **options: Any) -> dict[str, Any]:
    """An image of one layer of pip packages."""
    return {
        **BASE,
        "layers": [{"pipPackages": {"packages": ["acme"], "options": options, "secretMounts": list(mounts)}}],
    }


@pytest.mark.parametrize(
    ("written", "as_uv_reads_it", "as_it_is_checked"),
    [
        ("https://me:$TOKEN@x/simple", "https://me:${TOKEN}@x/simple", "https://x/simple"),
        ("https://${TOKEN}@x/simple", "https://${TOKEN}@x/simple", "https://x/simple"),
        ("https://$TOKEN:x-oauth-basic@x/a", "https://${TOKEN}:x-oauth-basic@x/a", "https://x/a"),
        ("https://x/$TOKEN/simple", "https://x/${TOKEN}/simple", "https://x/x/simple"),
        (
            "acme @ git+https://$TOKEN@x/acme@v1",
            "acme @ git+https://${TOKEN}@x/acme@v1",
            "acme @ git+https://x/acme@v1",
        ),
        ("acme==1.0", "acme==1.0", "acme==1.0"),
    ],
)
def test_a_variable_stands_for_a_secret(written: str, as_uv_reads_it: str, as_it_is_checked: str) -> None:
    """As a shell would write it, which is how Flyte's own builder expands it."""
    assert spelled(written, {"TOKEN"}, "layer 1") == (as_uv_reads_it, as_it_is_checked)


@pytest.mark.parametrize(
    "options",
    [
        {"indexUrl": "https://user:hunter2hunter2@x/simple"},
        {"extraIndexUrls": ["https://hunter2hunter2@x/simple"]},
        {"extraArgs": "--find-links https://u:hunter2hunter2@x/"},
        {"indexUrl": "https://u:hunter2hunter2@weird@x/simple"},
        {"extraArgs": "https://u:hunter2hunter2@x/simple"},
        {"extraArgs": "-xhttps://u:hunter2hunter2@x/simple"},
        {"extraArgs": "--only-binary https://u:hunter2hunter2@x/"},
        {"extraArgs": "--index-url 'https://u:hunter2hunter2@x/"},
    ],
)
def test_a_password_is_never_shown(options: dict[str, Any]) -> None:
    """The refusal says what to type instead."""
    with pytest.raises(Unsupported) as refused:
        recipe_from_spec(image(**options))
    assert "hunter2" not in f"{refused.value.message}{refused.value.hint}"
    assert "secret_mounts=" in str(refused.value.hint)


@pytest.mark.parametrize("line", ["six --hash=https://u:hunter2hunter2@x", "-rhttps://u:hunter2hunter2@x/r.txt"])
def test_a_password_in_a_requirements_file_is_never_shown(line: str) -> None:
    """Where no address belongs there may be one."""
    with pytest.raises(Unsupported) as refused:
        recipe_from_spec({**BASE, "layers": [{"requirements": {"file": "r"}}]}, {"r": line})
    assert "hunter2" not in f"{refused.value.message}{refused.value.hint}"


def test_a_variable_that_is_no_secret_of_the_layer_is_refused() -> None:
    """Another variable of the build would be expanded as well: its own, or one of the machine's."""
    with pytest.raises(InvalidInput, match=r"\$HOME is not a secret of this layer"):
        recipe_from_spec(image(TOKEN, indexUrl="https://$HOME@x/simple"))


@pytest.mark.parametrize(
    "name",
    ["GIT_SSH_COMMAND", "GIT_CONFIG_COUNT", "UV_PYTHON", "UV_CONFIG_FILE", "PYTHONPATH", "SSL_CERT_FILE",
     "HTTPS_PROXY", "HOME", "PATH", "CC", "NETRC", "XDG_CONFIG_HOME"],
)  # fmt: skip
def test_a_variable_that_steers_the_build_is_no_secret(name: str) -> None:
    """A build of wheels runs no code of anybody's: git would run what GIT_SSH_COMMAND says."""
    with pytest.raises(FlytedError):
        recipe_from_spec(image({**TOKEN, "envVar": name}))


@pytest.mark.parametrize("name", ["TOKEN", "UV_INDEX_ACME_PASSWORD", "UV_DEFAULT_INDEX", "GITHUB_PAT", "CCTOKEN"])
def test_variables_of_indexes_are_let_through(name: str) -> None:
    """uv's own for indexes, and any that an address may name."""
    assert variable(name, "x") == name


def test_a_file_is_no_secret_of_pip_packages() -> None:
    """uv reads none; the message has the line that works."""
    with pytest.raises(Unsupported, match="is a file"):
        recipe_from_spec(image({"key": "netrc", "mountRequirement": "FILE"}))


def test_two_secrets_are_not_one_variable() -> None:
    """In different layers, either."""
    two = image(TOKEN)
    two["layers"].append({"pipPackages": {"packages": ["b"], "secretMounts": [{**TOKEN, "key": "other"}]}})
    with pytest.raises(InvalidInput, match="two secrets as variable TOKEN"):
        recipe_from_spec(two)


def test_the_units_credentials_are_those_of_the_recipe_and_of_the_machine() -> None:
    """The values come by the socket; the unit, which everybody can read, has names alone."""
    recipe = recipe_from_spec(image(TOKEN, indexUrl="https://me:$TOKEN@x/simple"))
    settings = BuildSettings(secrets=(SecretUse("machines", env="UV_INDEX_ACME_PASSWORD"),))
    unit = build_unit("0" * 32, recipe, settings)
    assert unit["LoadCredential"] == [("b0", settings.credentials), ("b1", settings.credentials)]
    words = unit["ExecStartEx"][0][1]
    assert words[-4:] == ["--secret", "b0=TOKEN", "--secret", "b1=UV_INDEX_ACME_PASSWORD"]
    assert b"https://me:${TOKEN}@x/simple" in unit["SetCredential"][0][1]
    assert "LoadCredential" not in build_unit("0" * 32, recipe_from_spec(image()))


def test_what_is_built_with_a_secret_is_its_projects() -> None:
    """Another project has another token, or none: it does not get what this one fetched."""
    from dataclasses import replace

    recipe = recipe_from_spec(image(TOKEN))
    hashes = {recipe_hash(replace(recipe, scope=(project, "development")), HERE) for project in ("a", "b")}
    assert len(hashes) == 2
    plain = recipe_from_spec(image())
    assert recipe_hash(plain, HERE) not in hashes


def rooted(**options: Any) -> list[str]:
    """The commands that get a secret in an image of layers with these options of pip."""
    layers = [{"aptPackages": {"packages": ["jq"]}}, *image(TOKEN, **options)["layers"]]
    made = image_from_spec({**BASE, "layers": layers}, {}, {}, "x86_64")
    assert isinstance(made, RootRecipe)
    return [job.job["step"]["argv"][-1] for job in plan_of(made, "x86_64", {}).jobs if job.secrets]


def test_a_login_of_an_index_is_no_argument_of_uv_in_a_layer() -> None:
    """Everybody may read those in the list of processes; the variables of a process only its user."""
    more = ["https://${TOKEN}@a/simple", "https://b/simple", "https://x:$TOKEN@c/simple"]
    wanted = (
        'UV_DEFAULT_INDEX="https://me:${TOKEN}@example.com/simple" '
        'UV_EXTRA_INDEX_URL="https://${TOKEN}@a/simple https://b/simple https://x:${TOKEN}@c/simple" '
        "uv pip install --python $UV_PYTHON --pre acme"
    )
    assert rooted(indexUrl="https://me:$TOKEN@example.com/simple", extraIndexUrls=more, pre=True) == [wanted]
    assert rooted(indexUrl="https://b/simple") == [
        'uv pip install --python $UV_PYTHON --index-url "https://b/simple" acme'
    ]
    with pytest.raises(Unsupported, match="a secret in extra_args would be visible to every user") as caught:
        rooted(extraArgs="--index-url https://me:$TOKEN@example.com/simple")
    assert "index_url=" in caught.value.hint


def test_a_secret_among_poetrys_arguments_is_refused() -> None:
    """Poetry reads the passwords of its sources from variables."""
    mounts = [{"key": "T", "mountRequirement": "ENV_VAR", "envVar": "TOKEN"}]
    body = {"pyproject": "p", "poetryLock": "p/poetry.lock", "extraArgs": "-P $TOKEN", "secretMounts": mounts}
    image = {"baseImage": "python:3.12-slim-bookworm", "layers": [{"poetryProject": body}]}
    with pytest.raises(Unsupported, match="layer 1 of the image: a secret in extra_args would be visible") as caught:
        image_from_spec(image, {}, {"p": "1" * 64, "p/poetry.lock": "2" * 64}, "x86_64")
    assert "POETRY_HTTP_BASIC" in caught.value.hint
