"""What the arguments of an app cannot mean here is refused when it is served, and what looks like more is said."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract.app import SecretUse
from flyted.contract.errors import FlytedError, InvalidInput, Unsupported
from flyted.plan.arguments import check, notes
from tests.values import spec

FSERVE = ("fserve", "--resolver-args", "m:v", "--")
KEY = (SecretUse("K", env="K"),)


def args(*words: str, **changes: Any) -> Any:
    """An app with these args and a secret K."""
    return spec(command=(*FSERVE, *words), port=8080, **{"secrets": KEY, "env": (("PLAIN", "p"),), **changes})


@pytest.mark.parametrize(
    "words",
    [
        ("python", "x.py", "--api-key=$K", "${PLAIN}", '"$K"', "$HOME/x", "'$NOPE'"),
        ("mkdir", "x", "&&", "python", "x.py", "${NOPE:-y}"),
        ("streamlit run", "x.py"),
        (),
    ],
)
def test_what_means_the_same_as_on_a_cluster_is_served(words: tuple[str, ...]) -> None:
    """With a shell or without."""
    check(args(*words))


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (("p", "it's"), InvalidInput, "a quote that is not closed"),
        (("p", "$NOPE"), InvalidInput, "use $NOPE, and the app has no secret or variable NOPE"),
        (("p", "--key=${NOPE}"), InvalidInput, "no secret or variable NOPE"),
        (("p", "$(K)"), Unsupported, "Kubernetes would replace $(K) with a value"),
        (("cd", "/x;", "p", "--key=$K"), InvalidInput, "its args need a shell (;), and a program"),
        (("p", "--key", "${K:-none}"), InvalidInput, "secret K to all users"),
        (("/usr/bin/p", "--key=x$K"), InvalidInput, "program '/usr/bin/p' would show secret K"),
        (
            ("cd /srv &&", "vllm", "serve", "m", "--api-key", "x"),
            Unsupported,
            "cannot tell which paths of vLLM its key protects",
        ),
        (("cd /srv &&", "/opt/bin/llama-server", "-m", "x"), Unsupported, "llama.cpp"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: tuple[str, ...], error: type[FlytedError], said: str) -> None:
    """By name, and with what to do."""
    with pytest.raises(error) as caught:
        check(args(*words))
    assert said in caught.value.message
    assert caught.value.hint


def test_a_secret_that_may_be_shown_may_be_shown() -> None:
    """--allow-secret-in-argv."""
    for words in (("/usr/bin/p", "$K"), ("cd", "/x;", "p", "--key=$K")):
        check(args(*words, secret_in_argv=True))


def test_a_language_model_behind_a_token_may_have_a_shell() -> None:
    """All its paths are guarded by the ingress."""
    check(args("cd /srv &&", "vllm", "serve", "m", requires_auth=True))


def test_command_is_not_fserves() -> None:
    """No shell reads it on a cluster; Kubernetes does, for $(NAME)."""
    check(spec(command=("p", "it's", "$NOPE", "$(NOPE)", "&&")))
    with pytest.raises(Unsupported, match="Kubernetes"):
        check(spec(command=("p", "--key=$(K)"), secrets=KEY))


def test_variables_of_the_image_and_of_parameters_are_known() -> None:
    """They are the app's, too."""
    check(args("p", "$MODEL", image={"spec": {"layers": [{"env": {"envVariables": {"MODEL": "x"}}}]}}))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("p", "a b"), "argument 'a b' is not one word for the shell"),
        (("p", "a", "&&", "q"), "sh runs its args, as on a Flyte cluster, because of &&"),
        (("p", "'--key=$K'"), "$K is within quotes, so the program gets this text"),
        (("p", "\\$K"), "$K is within quotes"),
    ],
)
def test_what_may_be_taken_for_something_else_is_said(words: tuple[str, ...], said: str) -> None:
    """A line for each."""
    assert [note for note in notes(args(*words)) if said in note]


def test_usual_arguments_need_no_words() -> None:
    """Nothing is said of what is as it looks."""
    assert list(notes(args("p", "--key=$K", "$PLAIN", "x"))) == []
    assert list(notes(spec(command=("p", "$HOME")))) == []
    for shell in (("sh", "-c"), ("/bin/bash", "-ec")):
        assert list(notes(spec(command=(*shell, "p --key=$K"), secrets=KEY))) == []
    assert list(notes(spec(command=("sh", "run.sh", "--key=$K"), secrets=KEY)))
    (said,) = notes(spec(command=("p", "--key=${K}"), secrets=KEY))
    assert "gets the text ${K}" in said
