"""Requirements, files of them, and pip's options: what is let through to uv, and what is refused."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.errors import FlytedError, InvalidInput, Unsupported
from flyted.plan.images import pip
from tests.plan.image_specs import installed, packages

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
