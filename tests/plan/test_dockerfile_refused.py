"""Dockerfiles that are refused: file, line and instruction in each error, and what to write instead."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyted.contract.errors import FlytedError, InvalidInput, Unsupported
from flyted.plan.images import layers, text
from flyted.plan.images.dockerfile import recipe_of_dockerfile
from tests.plan.roots import ARCH, docker, planned


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("FROM scratch\nONBUILD RUN x\n", "Dockerfile:2: ONBUILD", "write the instruction"),
        ("FROM scratch\nADD https://x/y /y\n", "Dockerfile:2: ADD", "curl"),
        ("FROM scratch\n\nADD git@github.com:a/b.git /y\n", "Dockerfile:3: ADD", "curl"),
        ("FROM scratch\nRUN --mount=type=ssh true\n", "Dockerfile:2: RUN", "secret"),
        ("FROM scratch\nRUN --network=none true\n", "Dockerfile:2: RUN", "remove"),
        ("FROM scratch\nRUN --security=insecure true\n", "Dockerfile:2: RUN", "remove"),
        ("FROM scratch\nRUN --device=x true\n", "Dockerfile:2: RUN", "remove"),
        ("FROM scratch\nRUN --mount=type=cache,from=x,target=/y true\n", "Dockerfile:2: RUN", "remove"),
        ("FROM scratch\nRUN --mount=type=secret,id=a,target=$HOME/a true\n", "Dockerfile:2: RUN", "write the path"),
        ("FROM scratch\nCOPY --parents a /b\n", "Dockerfile:2: COPY", "remove"),
        ("FROM scratch\nCOPY --chmod=u+x a /b\n", "Dockerfile:2: COPY", "755"),
        ("FROM scratch\nCOPY <<EOF /b\nx\nEOF\n", "Dockerfile:2: COPY", "beside"),
        ("FROM scratch\nENV A=${B#c}\n", "Dockerfile:2: ENV", "${B:-value}"),
    ],
)
def test_what_is_not_supported_is_refused_by_name_with_a_cure(text, place, hint):
    """File, line, instruction; and what to write instead."""
    with pytest.raises(Unsupported) as caught:
        docker(text)
    assert caught.value.message.startswith(place)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "Dockerfile has no instruction"), ("# only\n", "Dockerfile has no instruction"),
        ("RUN x\n", "Dockerfile:1: RUN: FROM must come first"),
        ("ARG A=1\n", "Dockerfile has no FROM"), ("FROM\n", "Dockerfile:1: FROM"),
        ("FROM a b\n", "Dockerfile:1: FROM"), ("FROM a AS 1x\n", "Dockerfile:1: FROM"),
        ("FROM 'a b'\n", "Dockerfile:1: FROM"), ("FROM $A\n", "Dockerfile:1: FROM"),
        ("FROM scratch\nFORM x\n", "Dockerfile:2: FORM"),
        ("FROM scratch\n=x\n", "Dockerfile:2"), ("FROM scratch\nRUN\n", "Dockerfile:2: RUN"),
        ("FROM scratch\nCOPY a\n", "Dockerfile:2: COPY"),
        ("FROM scratch\nCOPY a b /c\n", "Dockerfile:2: COPY"),
        ("FROM scratch\nCOPY --from=7 a /c\n", "Dockerfile:2: COPY"),
        ("FROM scratch AS me\nCOPY --from=me a /c\n", "Dockerfile:2: COPY"),
        ("FROM scratch\nCOPY ../a /c\n", "Dockerfile:2: COPY"),
        ("FROM scratch\nENV A\n", "Dockerfile:2: ENV"), ("FROM scratch\nENV A=1 B\n", "Dockerfile:2: ENV"),
        ("FROM scratch\nENV 1=2\n", "Dockerfile:2: ENV"),
        ("FROM scratch\nENV A='b\n", "Dockerfile:2: ENV"), ("FROM scratch\nARG\n", "Dockerfile:2: ARG"),
        ("FROM scratch\nUSER\n", "Dockerfile:2: USER"),
        ("FROM scratch\nUSER a b\n", "Dockerfile:2: USER"), ("FROM scratch\nEXPOSE x\n", "Dockerfile:2: EXPOSE"),
        ("FROM scratch\nVOLUME /\n", "Dockerfile:2: VOLUME"), ("FROM scratch\nVOLUME $A\n", "Dockerfile:2: VOLUME"),
        ("FROM scratch\nSHELL bash\n", "Dockerfile:2: SHELL"),
        ("FROM scratch\nRUN <<EOF\nx\n", "Dockerfile:2: RUN: the here-document does not end"),
        ("# escape=x\nFROM scratch\n", "Dockerfile: escape="),
        ("FROM scratch\nRUN --mount=type=bind,source=a x\n", "Dockerfile:2: RUN"),
        ("FROM scratch\nRUN --mount=target=/ x\n", "Dockerfile:2: RUN"),
        ("FROM scratch\n" + "RUN x\n" * 101, "Dockerfile:102: RUN: the image has more than 100 layers"),
        ("FROM scratch\n" + "ENV A=b\n" * 600, "Dockerfile has more than 512"),
        ("FROM scratch\nRUN " + "x" * 200_000, "Dockerfile:2: RUN"),
        ("FROM scratch\nVOLUME /v" + " /v".join(map(str, range(300))), "Dockerfile:2: VOLUME: the image has more"),
        ("FROM scratch\nEXPOSE " + " ".join(map(str, range(300))), "Dockerfile:2: EXPOSE: the image has more"),
        ("#" * 300_000, "Dockerfile is larger"),
    ],
)  # fmt: skip
def test_what_is_no_dockerfile_is_an_error_with_its_place(text, place):
    """Never a traceback, never a guess."""
    with pytest.raises(InvalidInput) as caught:
        docker(text)
    assert caught.value.message.startswith(place)


def test_a_file_that_was_not_sent_is_named():
    """Without the whole context."""
    with pytest.raises(InvalidInput, match="Dockerfile:2: COPY: 'a' was not sent"):
        planned(recipe_of_dockerfile("FROM scratch\nCOPY a /b\n", "Dockerfile", {}, ARCH))


_WORDS = st.sampled_from(
    ["FROM", "scratch", "RUN", "COPY", "--from=0", "--mount=type=bind,target=/x", "ENV", "A=$B", "ARG", "<<EOF", "EOF",
     "\n", "\n", "\\\n", "#", "AS", "x", "WORKDIR", "/y", '["a"]', "USER", "${A:-", "}", "'", '"', "VOLUME", "80"]
)  # fmt: skip


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(st.lists(_WORDS, max_size=25).map(" ".join) | st.text(max_size=60))
def test_any_text_is_a_plan_or_our_error(text):
    """A Dockerfile is a stranger's."""
    try:
        docker(f"FROM scratch\n{text}")
    except FlytedError:
        return


def test_a_copy_of_many_files_is_refused_at_the_first_layer_too_many(monkeypatch):
    """Each is a layer, and its job names all those below it: 100,000 in one line were gigabytes of the daemon's."""
    made = []
    add = layers._Planner._add

    def counted(self, state, each, where):
        made.append(each)
        add(self, state, each, where)

    monkeypatch.setattr(layers._Planner, "_add", counted)
    with pytest.raises(InvalidInput, match="Dockerfile:2: COPY: the image has more than 100 layers"):
        docker("FROM scratch\nCOPY " + "a " * 1_000 + "/x/\n")
    assert len(made) == layers.MAX_STACK + 1


def test_a_text_is_read_in_one_go(monkeypatch):
    """Joined once for each variable, not once for each letter: the daemon does nothing else meanwhile."""
    joined = []
    end = text._Reader._end_literal

    def counted(self):
        joined.append(len(self.literal))
        end(self)

    monkeypatch.setattr(text._Reader, "_end_literal", counted)
    assert text.word("ab$C'd'" + "x" * 100_000, "") == ("ab", text.Variable("C"), "d" + "x" * 100_000)
    assert joined == [2, 100_001]
