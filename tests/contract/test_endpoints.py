"""The apps that an app may call are found in its code, and no other app is taken for one of them."""

from __future__ import annotations

import io
import tarfile

import pytest

from flyted.contract.endpoints import FILE_BYTES, Named, named_in, notes, sources_of

HEAD = "from flyte.app.extras import FastAPIAppEnvironment\nimport flyte.app\n"
BACK_IMPORTED = "from backend import back\n"
BACK = "back = FastAPIAppEnvironment(name='llm', app=a)\n"
FRONT = "front = FastAPIAppEnvironment(name='front', app=b, depends_on=[back])\n"
ASK = "@b.get('/')\nasync def ask():\n    return get(f'{back.endpoint}/x')\n"


def named(variable: str = "front", module: str = "main", **files: str) -> Named:
    command = ["fserve", "--resolver", "r", "--resolver-args", f"{module}:{variable}", "--"]
    return named_in({f"{name.replace('__', '/')}.py": HEAD + text for name, text in files.items()}, command)


def apps(variable: str = "front", module: str = "main", **files: str) -> list[str]:
    return list(named(variable, module, **files).apps)


def test_the_example_of_flytes_guide() -> None:
    """app_calling_app.py: the second app depends on the first one, which calls none."""
    assert named(main=BACK + FRONT + ASK) == Named(("llm",))
    assert named("back", main=BACK + FRONT + ASK) == Named()


@pytest.mark.parametrize(
    "files",
    [
        {"main": "from backend import back as up\n" + FRONT.replace("[back]", "[up]") + "x = up.endpoint\n"},
        {"main": "import backend\n" + FRONT.replace("[back]", "[backend.back]") + "x = backend.back.endpoint\n"},
        {"main": BACK_IMPORTED + FRONT + "import helper\n", "helper": BACK_IMPORTED + ASK},
        {"main": BACK_IMPORTED + "front = flyte.app.AppEnvironment(name='f')\nfront.add_dependency(back)\n" + ASK},
        {"main": BACK_IMPORTED + "front: object = FastAPIAppEnvironment(depends_on=(back,))\n" + ASK},
        {"main": BACK_IMPORTED + FRONT},
        {"main": BACK_IMPORTED + "front = made('front', b, depends_on=[back])\n"},
    ],
)  # fmt: skip
def test_names_are_followed_through_imports(files: dict[str, str]) -> None:
    """As, a module's attribute, a helper's file; whether or not the code reads the address."""
    assert named(**files, backend=BACK) == Named(("llm",))


def test_relative_imports_in_packages() -> None:
    """`from .parts import back` in the package's own module."""
    files = {"shop__parts": BACK, "shop__main": "from .parts import back\n" + FRONT + ASK}
    assert apps(module="shop.main", **files) == ["llm"]


def test_only_what_it_names_itself() -> None:
    """Not what that depends on: the middle one may call it, and this one's code is told of."""
    middle = "middle = back.clone_with('m', depends_on=[back])\n"
    assert named(main=BACK + middle + FRONT.replace("[back]", "[middle]") + ASK) == Named(("m",), (), ("back",))


@pytest.mark.parametrize("given", ["name=NAME", "name=f'{x}'", "NAME", ""])
def test_a_name_that_the_code_does_not_show(given: str) -> None:
    """The gateway cannot know it, and says so; flytectl has imported the file."""
    found = named(main=f"back = FastAPIAppEnvironment({given})\n" + FRONT + ASK)
    assert found == Named((), ("back",))
    (said,) = notes(found, known=False)
    assert "depends_on has back" in said
    assert list(notes(found, known=True)) == []


@pytest.mark.parametrize("expression", ["DEPENDENCIES", "[e for e in (back,)]", "made()"])
def test_what_depends_on_may_be(expression: str) -> None:
    """Anything that makes a list."""
    assert named(main=BACK + FRONT.replace("[back]", expression)).hidden != ()


def test_environments_that_a_function_makes() -> None:
    """By the name that it is given."""
    text = "back = made('llm', a)\nfront = made('front', b, depends_on=[back])\n"
    assert named(main=text + ASK) == Named(("llm",))
    assert named(main=text.replace("'llm', a", "a, name='llm'")) == Named(("llm",))
    assert named(main=text.replace("'llm', a", "a")) == Named((), ("back",))


def test_what_is_no_app_is_none() -> None:
    """Flyte deploys tasks with an app that depends on them; flytectl says that it does not."""
    assert named(main="work = flyte.TaskEnvironment(name='work')\n" + FRONT.replace("[back]", "[work]")) == Named()


@pytest.mark.parametrize(
    "text",
    [
        "front = FastAPIAppEnvironment(name='front')\nif __name__ == '__main__':\n    print(back.endpoint)\n",
        "front = FastAPIAppEnvironment(name='front')\nclass Settings:\n    endpoint = 'x'\nprint(Settings.endpoint)\n",
        "front = FastAPIAppEnvironment(name='front')\nclient = object()\nprint(client.endpoint)\n",
        "front = FastAPIAppEnvironment(name='front')\nback.endpoint = 1\n",
        "this is no Python: back.endpoint",
    ],
)
def test_an_app_that_asks_for_no_address(text: str) -> None:
    """Other things have endpoints, and a script's last lines run where it is served from."""
    assert named(main=BACK + text) == Named()


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (FRONT.replace("depends_on=[back]", "") + ASK, "back"),
        (FRONT.replace("depends_on=[back]", "") + "def f():\n    return getattr(back, 'endpoint')\n", "back"),
        (FRONT.replace("[back]", "[]") + "def me():\n    return front.endpoint\n", "front"),
    ],
)
def test_the_address_of_an_app_that_it_does_not_name_is_said(text: str, read: str) -> None:
    """Nobody can tell which app asks: it is served, and nothing is left to its first request."""
    found = named(main=BACK + text)
    assert found == Named((), (), (read,))
    (said,) = notes(found, known=True)
    assert f"{read}.endpoint" in said
    assert "depends_on" in said


def test_the_files_of_a_bundle() -> None:
    """Python only, bounded, and never an error: what cannot be read is looked at by nobody."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in {
            "main.py": b"x = 1",
            "./a/b.py": b"\xff",
            "c.txt": b"no",
            "big.py": bytes(FILE_BYTES + 1),
        }.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    packed = buffer.getvalue()
    assert sources_of(io.BytesIO(packed)) == {"main.py": "x = 1", "a/b.py": "\ufffd"}
    for bad in (b"", b"no archive", packed[: len(packed) // 2]):
        assert not set(sources_of(io.BytesIO(bad))) - {"main.py", "a/b.py"}


@pytest.mark.parametrize(
    "expression", ["x" + ".a" * 900 + ".endpoint", "[" * 150 + "x.endpoint" + "]" * 150, "x" + "+x" * 9000]
)
def test_code_that_nobody_wrote_is_no_fault_of_ours(expression: str) -> None:
    """Python's own limits end the reading, not the gateway."""
    assert apps(main=BACK + FRONT + f"y = lambda: ({expression}, z.endpoint)\n") in ([], ["llm"])


def test_a_bomb_is_not_unpacked() -> None:
    """64 MiB of zeros in a few hundred kilobytes, in front of what would be looked at."""

    class Zeros(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return bytes(max(size, 0))

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        entry = tarfile.TarInfo("model.bin")
        entry.size = 64 << 20
        tar.addfile(entry, Zeros())
        entry = tarfile.TarInfo("main.py")
        tar.addfile(entry, io.BytesIO())
    assert sources_of(io.BytesIO(buffer.getvalue())) == {}
