"""Every outside string that becomes a name is checked once; every derived name is unique and short enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.errors import InvalidInput
from flyted.contract.names import (
    AppKey,
    Replica,
    SecretScope,
    env_name,
    label,
    model_name,
    printable,
    replica_of,
    secret_file,
    secret_key,
    user_of,
)

BAD = [
    "",
    "..",
    "a/b",
    "a\nb",
    "a\n",
    "%n",
    "-x",
    "x-",
    "a" * 64,
    "\u0410",
    "a$",
    "a b",
    "a_b",
    "a.b",
    "A",
    "\x00",
    "a\u2028",
]
LABEL = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


@pytest.mark.parametrize("value", BAD)
def test_bad_app_names_are_refused(value: str) -> None:
    """Nothing but an RFC 1123 label becomes an app's name; the message never repeats a control character."""
    with pytest.raises(InvalidInput) as caught:
        label(value, "app name")
    assert not set(caught.value.message) & set("\n\x00\u2028")


@pytest.mark.parametrize(
    "value",
    ["", "..", "a..b", "a/", "/b", "a/../b", "a/b/c", "a/.b", "a\n", "%n%/", "-x", ".x", "a" * 129, "\u0410", "a b"],
)
def test_bad_secret_keys_are_refused(value: str) -> None:
    """A key can neither leave a folder nor be taken for an option."""
    with pytest.raises(InvalidInput):
        secret_key(value)


def test_a_secret_may_be_in_a_group() -> None:
    """GROUP/KEY is a name of its own; a file in /etc/flyte/secrets never has a slash in its name."""
    assert secret_key("aws/token") == "aws/token"
    with pytest.raises(InvalidInput):
        secret_file("aws/token")


@pytest.mark.parametrize(
    "value",
    ["LD_PRELOAD", "PATH", "HOME", "IFS", "PYTHONPATH", "BASH_ENV", "CREDENTIALS_DIRECTORY", "LISTEN_FDS",
     "NOTIFY_SOCKET", "GCONV_PATH", "_F_SYS_PATH", "A\n", "1A", "", "A=B", "\u0410"],
)  # fmt: skip
def test_variables_that_change_what_runs_are_refused(value: str) -> None:
    """The SDK accepts LD_PRELOAD and "A\\n" as as_env_var; we do not."""
    with pytest.raises(InvalidInput):
        env_name(value)


@given(LABEL, LABEL, LABEL)
def test_units_and_users_of_any_app_fit_systemd(project: str, domain: str, name: str) -> None:
    """Unit name and credential id stay within 84 bytes, user names within 31, host labels within 63."""
    key = AppKey(project, domain, name)
    replica = Replica(key.id, 999_999)
    assert len(replica.service) + len("sums") <= 84
    assert len(user_of(key.id)) <= 31
    assert label(key.id, "id") == key.id
    assert len(f"/run/flyted/apps/{replica.server}.sock") < 108
    assert replica_of(replica.service) == replica_of(replica.socket) == replica


@given(st.lists(st.tuples(LABEL, LABEL, LABEL), min_size=2, max_size=2, unique=True))
def test_two_apps_never_share_an_id(keys: list[tuple[str, str, str]]) -> None:
    """Different apps have different ids, units and hosts."""
    first, second = (AppKey(*key) for key in keys)
    assert first.id != second.id
    assert user_of(first.id) != user_of(second.id)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("default", "development", "a-b-c"), ("b", "c", "a")),
        (("x", "y", "a-b"), ("b", "x", "a-y")),
        (("c", "development", "a-b"), ("b-c", "development", "a")),
    ],
)
def test_names_that_join_to_the_same_text_are_told_apart(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    """`a-b` + `c` is not `a` + `b-c`."""
    assert AppKey(*one).id != AppKey(*other).id


def test_a_name_that_looks_like_a_hashed_id_is_hashed_itself() -> None:
    """Nobody can take another app's id by choosing its name."""
    victim = AppKey("team", "production", "api")
    assert AppKey("default", "development", victim.id).id != victim.id


def test_the_plain_case_is_plain() -> None:
    """In the default project an app's id is its name: the URL says what the user wrote."""
    assert AppKey("default", "development", "authenticated-api").id == "authenticated-api"


@pytest.mark.parametrize(
    "unit", ["ssh.service", "flyted-app-a.service", "flyted-app-a-r1-0.timer", "flyted-app--r1-0.servicex"]
)
def test_foreign_units_are_nobodys_replica(unit: str) -> None:
    """Only names that we make are taken for an app's."""
    assert replica_of(unit) is None


def test_a_project_alone_is_no_scope() -> None:
    """Flyte knows org, domain, and project with domain."""
    with pytest.raises(InvalidInput):
        SecretScope("p", "")


@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B", "tiny", "ggml-org/gemma-3-4b-it-GGUF:Q4_K_M", "a" * 96])
def test_models_have_a_hubs_names(name: str) -> None:
    """Owner and name, or a name alone, and a tag where there is one."""
    assert model_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "/srv/m", "a/b/c", "../m", "a/..", "-m", "a b", "a\n", "é", "a:", "s3://b/m", None, 1]
)
def test_other_words_are_no_models(name: object) -> None:
    """Neither a path nor an option."""
    with pytest.raises(InvalidInput, match="is not a model name"):
        model_name(name)


def test_what_is_shown_is_one_bounded_word() -> None:
    """Nothing of it moves a cursor; of a long path both ends are there, since the last word names the file."""
    assert printable("a\x1b[2J\n") == r"'a\x1b[2J\n'"
    path = f"/srv/hub/models--Qwen--Qwen3-0.6B/snapshots/{'0' * 40}/model.safetensors"
    said = printable(path)
    assert len(said) <= 80
    assert said.startswith("'/srv/hub/models--Qwen")
    assert said.endswith("/model.safetensors'")
