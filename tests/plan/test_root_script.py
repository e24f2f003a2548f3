"""Which scripts of images are known to need root before they start, and which are left to try."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Callable

import pytest

from flyted.contract.errors import InvalidInput
from flyted.plan.facts import RootFact
from flyted.plan.images.root_script import Needs, check, needs_root
from tests.values import spec

ROOT = RootFact(("a" * 32,))
LAST = '\nexec "$@"\n'

FINE = {
    "asks first": '#!/bin/sh\nset -e\nif [ "$1" = redis-server -a "$(id -u)" = 0 ]; then\n'
    f'  chown -R redis .\n  exec gosu redis "$0" "$@"\nfi{LAST}',
    "asks in a function": "#!/bin/bash\nset -Eeo pipefail\n_main() {\n  as_root\n  chown x /y\n}\n"
    'as_root() { [ "$EUID" = 0 ]; }\n_main "$@"\n',
    "asks whoami": '#!/bin/sh\n[ "$(whoami)" = root ] || exec app\nchown a /b\nexec gosu a app\n',
    "asks for the user": "#!/bin/bash\nset -e\nif [[ $UID != 0 ]]; then echo; fi\nchown a /b\n",
    "only for an argument": f'#!/bin/sh\nset -e\nif [ "$1" = x ]; then chown a /b; exec gosu a "$@"; fi{LAST}',
    "only for some": "#!/bin/sh\nset -e\ncase $1 in\n (x|-*) chown a /b; exec gosu a x ;;\n *) ;;\nesac\nexec x\n",
    "ends before, for some": '#!/bin/sh\nif [ -n "$PLAIN" ]; then exec app; fi\nexec gosu a app\n',
    "ends well before, for some": "#!/bin/sh\nhelp() { echo; exit 0; }\n[ $1 = -h ] && help\nexec gosu a app\n",
    "ends before": "#!/bin/sh\nexec app\nexec gosu a app\n",
    "may fail": f"#!/bin/sh\nchown a /b\ngosu a migrate{LAST}",
    "may fail here": f"#!/bin/sh -e\nchown a /b || true\nchown c /d 2>/dev/null || :\n! su a -c b{LAST}",
    "may fail since": f"#!/bin/sh -e\nset +e\nchown a /b{LAST}",
    "in the background": f"#!/bin/sh -e\ngosu a watch &{LAST}",
    "for each": f'#!/bin/sh -e\nfor each in "$FOLDERS"; do chown a "$each"; done{LAST}',
    "is only a word": "#!/bin/sh -e\necho chown a; : gosu # exec gosu a b\ncat <<EOF >/x\nchown a b\nEOF\n"
    "words=(exec gosu a)\nexec app 'x;\nchown a b'\n",
    "is only defined": f"#!/bin/sh -e\nfix() {{ chown a /b; }}\nfunction more {{ chown a /b; }}{LAST}",
    "is no other user": '#!/bin/sh\nexec setpriv --no-new-privs "$@"\n',
    "is no shell": "#!/usr/bin/env python3\nimport os\nchown a b\nexec gosu a b\n",
    "is no script": "chown a b\nexec gosu a b\n",
    "is empty": "",
}  # fmt: skip


@pytest.mark.parametrize("how", FINE)
def test_a_script_that_may_run_without_root_is_left_to_try(how: str) -> None:
    """Whatever it asks, or does only on a condition, or may fail in."""
    assert needs_root(FINE[how]) is None


REFUSED = {
    "su-exec": ('#!/bin/sh\nset -x\nchown -R ${NAME} .\n\nexec su-exec ${NAME} "$@"\n', ("$@",)),
    "gosu": ("#!/usr/bin/env bash\ncd /app && ls\nexec gosu a:b /opt/app --port 80\n", ("/opt/app", "--port", "80")),
    "su-exec, wrapped": ('#!/bin/sh\nexec /sbin/tini -g -- env A=b su-exec app "$@"\n', ("$@",)),
    "chown": (f"#!/bin/sh\nset -eu\nmkdir -p /x\nchown -R a:b \"/x/${{Y:-'z'}}\" 2>/dev/null{LAST}", ("$@",)),
    "sudo": ("#!/bin/bash -e\nsudo -u a \\\n  migrate\nexec app\n", ("app",)),
    "setpriv": ('#!/bin/sh\nexec setpriv --reuid=a --regid=a --init-groups "$@"\n', None),
    "su": ("#!/bin/dash\nif [ ! -f /x ]; then echo none; exit 1; fi\nexec su a -c 'app $X'\n", None),
    "runuser": ("#!/bin/bash\nset -o errexit\nrunuser -u a x\n", None),
}  # fmt: skip


@pytest.mark.parametrize("program", REFUSED)
def test_a_script_that_needs_root_in_any_case_is_known(program: str) -> None:
    """By its own words, as far as they run whatever it is called with; and what it ends in."""
    text, ends_in = REFUSED[program]
    found = needs_root(text)
    assert found is not None
    assert found.ends_in == ends_in
    assert found.program == program.partition(",")[0]


def files(**texts: str) -> Callable[[str, int], str]:
    """A function that reads the files of an image."""
    found = {f"/{name.replace('__', '/')}": text for name, text in texts.items()}
    return lambda path, _limit: found.get(posixpath.normpath(path), "")


SCRIPT = '#!/bin/sh\nset -e\nchown -R app /data\nexec gosu app "$@"\n'


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        (("entry", "nginx", "-g", "daemon off;"), 'command=["nginx", "-g", "daemon off;"]'),
        (("/usr/local/bin/entry", "run"), 'command=["run"]'),
        (("../usr/local/bin/entry", 'a"b'), r'command=["a\"b"]'),
        (("tini", "-g", "--", "entry", "run"), 'command=["run"]'),
        (("env", "-i", "A=b", "entry", "run"), 'command=["run"]'),
        (("/bin/bash", "-e", "/usr/local/bin/entry", "run"), 'command=["run"]'),
        (("entry",), "command=[...]"),
        (("fserve", "--resolver-args", "app:env", "--", "entry", "run"), 'command=["run"]'),
    ],
)
def test_an_app_is_refused_with_what_to_write(command: tuple[str, ...], instead: str) -> None:
    """Its program is looked for as at a start: by the image's PATH and working folder, behind a wrapper."""
    root = dataclasses.replace(ROOT, workdir="/srv")
    read = files(usr__local__bin__entry=SCRIPT)
    with pytest.raises(InvalidInput, match=r"app 'a' starts .*entry', a script that runs (gosu|chown)") as it:
        check(spec("a", command=command, port=8080), root, {"PATH": "/opt/bin:/usr/local/bin:bin"}, read)
    assert instead in it.value.hint


@pytest.mark.parametrize(
    "command",
    [
        ("nginx",),
        ("sh", "-c", "entry x"),
        ("fserve", "--resolver-args", "app:env", "--"),
        ("sh",),
        ("env", "A=b", "x"),
    ],
)
def test_other_programs_are_as_they_were(command: tuple[str, ...]) -> None:
    """Of what is no script of the image, nothing is known."""
    check(spec("a", command=command, port=8080), ROOT, {}, files(usr__bin__entry=SCRIPT))


def test_a_hostile_script_costs_nothing_but_a_try() -> None:
    """Deep, broken, endless or large: it is not understood, and the app may start."""
    for body in (
        "$(" * 30_000, "`" * 9999, '"$(' * 10_000, "(" * 60_000, "{ " * 30_000, "'", '"', "cat <<A\n", "case x",
        "f() x", "if " * 20_000, "<<" * 9999, "<< " * 9999, "<<", "\x0b\x0c\x85" * 9, "${" * 30_000, "\\",
        "f() { f; }; f\n",
        "a() { b; b; }; b() { c; c; }; c() { d; d; }; d() { e; e; }; e() { f; f; }; f() { g; g; }; g() { a; a; }; a",
    ):  # fmt: skip
        assert needs_root(f"#!/bin/sh -e\n{body}") is None
    assert needs_root("#!/bin/sh -e\n" + "f() { :; }\n" + "f\n" * 10_000) is None
    large = SCRIPT + "#" * (1 << 16)
    check(spec("a", command=("/e",), port=8080), ROOT, {}, lambda _path, limit: large[:limit])


def test_what_it_ends_in_is_said_only_where_it_is_known() -> None:
    """Not with a variable that only the script knows, nor after a program that is called in another way."""
    read = files(e='#!/bin/sh\nexec gosu a "$JAVA" -jar /x\n')
    with pytest.raises(InvalidInput) as it:
        check(spec("a", command=("/e",), port=8080), ROOT, {}, read)
    assert "in the end: command=[...];" in it.value.hint
    assert needs_root("#!/bin/sh -e\nchown a b\nexec gosu a c d\n") == Needs("chown", ("c", "d"))
