"""An app that asks another one for its address is known before it is served, and no other app is taken for it."""

from __future__ import annotations

import io
import tarfile

import pytest

from flyted.contract.endpoints import FILE_BYTES, Asked, asked_for, check, sources_of

HEAD = "from flyte.app.extras import FastAPIAppEnvironment\nimport flyte.app\n"
BACK_IMPORTED = "from backend import back\n"
BACK = "back = FastAPIAppEnvironment(name='back', app=a)\n"
FRONT = "front = FastAPIAppEnvironment(name='front', app=b, depends_on=[back])\n"
ASK = "@b.get('/')\nasync def ask():\n    return get(f'{back.endpoint}/x')\n"


def both(variable: str = "front", module: str = "main", **files: str) -> Asked:
    command = ["fserve", "--resolver", "r", "--resolver-args", f"{module}:{variable}", "--"]
    return asked_for({f"{name.replace('__', '/')}.py": HEAD + text for name, text in files.items()}, command)


def asked(variable: str = "front", module: str = "main", **files: str) -> list[str]:
    return list(both(variable, module, **files).certain)


def test_the_example_of_flytes_guide() -> None:
    """app_calling_app.py: the second app reads the first one's endpoint in a handler, the first reads none."""
    assert asked(main=BACK + FRONT + ASK) == ["back"]
    assert asked("back", main=BACK + FRONT + ASK) == []


@pytest.mark.parametrize(
    "files",
    [
        {"main": "from backend import back as up\n" + FRONT.replace("[back]", "[up]") + "x = up.endpoint\n"},
        {"main": "import backend\n" + FRONT.replace("[back]", "[backend.back]") + "x = backend.back.endpoint\n"},
        {"main": BACK_IMPORTED + FRONT + "import helper\n", "helper": BACK_IMPORTED + ASK},
        {"main": BACK_IMPORTED + "front = flyte.app.AppEnvironment(name='f')\nfront.add_dependency(back)\n" + ASK},
        {"main": BACK_IMPORTED + "middle = back.clone_with('m', depends_on=[back])\n"
         + FRONT.replace("[back]", "(middle,)") + ASK},
        {"main": BACK_IMPORTED + "front: object = FastAPIAppEnvironment(depends_on=[back])\n" + ASK},
    ],
)  # fmt: skip
def test_names_are_followed_through_imports(files: dict[str, str]) -> None:
    """As, a module's attribute, a helper's file, dependencies of dependencies."""
    assert asked(**files, backend=BACK) == ["back"]


def test_relative_imports_in_packages() -> None:
    """`from .parts import back` in the package's own module."""
    files = {"shop__parts": BACK, "shop__main": "from .parts import back\n" + FRONT + ASK}
    assert asked(module="shop.main", **files) == ["back"]


@pytest.mark.parametrize(
    "text",
    [
        BACK + FRONT,
        BACK + FRONT + "if __name__ == '__main__':\n    print(back.endpoint)\n",
        BACK + FRONT + "class Settings:\n    endpoint = 'x'\nprint(Settings.endpoint)\n",
        BACK + FRONT + "client = object()\nprint(client.endpoint)\n",
        BACK + FRONT + "back.endpoint = 1\n",
        BACK + FRONT + "this is no Python: back.endpoint",
    ],
)
def test_an_app_that_asks_for_no_address_is_served(text: str) -> None:
    """Other things have endpoints, and a script's last lines run where it is served from."""
    assert both(main=text) == Asked()


def test_getattr_asks_as_well() -> None:
    """As code does that other people's linters look at."""
    assert asked(main=BACK + FRONT + "def f():\n    return getattr(back, 'endpoint')\n") == ["back"]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (BACK + FRONT.replace("depends_on=[back]", "") + ASK, "back"),
        (BACK + FRONT + "def f():\n    return [e.endpoint for e in (back,)]\n", "e"),
        (BACK + FRONT + "import helper\n", "env"),
        (BACK + FRONT + "class A:\n    def f(self):\n        return self.env.endpoint\n", "self.env"),
        (BACK + FRONT + "def f():\n    return {'b': back}['b'].endpoint\n", "…"),
        (FRONT.replace("[back]", "[]") + "def me():\n    return front.endpoint\n", "front"),
    ],
)
def test_what_may_be_an_address_of_an_app_is_said(text: str, read: str) -> None:
    """Nobody can tell whose it is, or which app asks: the app is served, and nothing is left to its first request."""
    helper = "def url_of(env):\n    return env.endpoint\n" if "helper" in text else ""
    assert both(main=text, helper=helper) == Asked((), (read,))
    sources = {"main.py": HEAD + text, "helper.py": helper}
    [said] = check("front", sources, ["fserve", "--resolver-args", "main:front"])
    assert f"{read}.endpoint" in said


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
    assert asked(main=BACK + FRONT + f"y = lambda: ({expression}, z.endpoint)\n") == []


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
