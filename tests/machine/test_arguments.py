"""The arguments of an app mean what they mean on a Flyte cluster, whose fserve gives them to a shell; no key shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machine.kit.programs import port_server, processes, serve, unit, write
from tests.machine.kit.users import alice, answer, curl, forget_apps, forget_secrets, refused

CANARY = "CANARY word; id #5d1f"
LINES = "-----BEGIN CERTIFICATE-----\nMIIB%41$A\n\tx\n-----END CERTIFICATE-----\n"


@pytest.fixture(scope="module", autouse=True)
def _secret() -> Iterator[None]:
    alice("flytectl", "secret", "create", "ARG_KEY", "-", "--replace", typed=CANARY)
    yield
    forget_apps("arg-")
    forget_secrets("ARG_KEY")


@pytest.mark.parametrize("word", ["--key=$ARG_KEY", '"--key=${ARG_KEY}"', "--key=${ARG_KEY}"])
def test_a_secret_inside_a_word_is_the_secret(word: str) -> None:
    """Not the text ``$ARG_KEY``, which is public; and no process shows the value."""
    url = serve("arg-word", port_server(word), secrets='flyte.Secret("ARG_KEY", as_env_var="ARG_KEY")')
    assert curl(f"{url}/key") == (200, CANARY)
    assert not [line for line in processes(unit("arg-word")).values() if "CANARY" in line]


def test_a_line_for_a_shell_is_run_by_one() -> None:
    """`&&`, a folder that is changed, a default for a variable; said at serve."""
    forget_apps("arg-shell")  # it is said when a revision is made
    words = ["mkdir -p $HOME/www && cd $HOME/www && echo from a shell >x.txt && exec python -m http.server ${P:-8080}"]
    done = alice("flytectl", "serve", write("arg-shell", words))
    assert "sh runs its args, as on a Flyte cluster, because of &&" in done.stderr
    url = answer("app", "get", "arg-shell")["url"]
    assert curl(f"{url}/x.txt") == (200, "from a shell\n")


def test_what_a_shell_would_show_or_cannot_read_is_refused_at_serve() -> None:
    """A revision that cannot be is none: the app keeps what it had, which is nothing."""
    secret = 'flyte.Secret("ARG_KEY", as_env_var="ARG_KEY")'
    for words, said in (
        (["python", "port_server.py", "--key=$ARG_KEY", "&&", "true"], "show secret ARG_KEY to all users"),
        (["python", "port_server.py", "it's"], "a quote that is not closed"),
        (["python", "port_server.py", "--key=$NO_SUCH"], "no secret or variable NO_SUCH"),
        (["/usr/bin/busybox", "httpd", "--x=$ARG_KEY"], "would show secret ARG_KEY"),
    ):
        assert said in refused("flytectl", "serve", write("arg-no", words, secrets=secret), status=2)
    assert "arg-no" not in [app["name"] for app in answer("app", "ls")["apps"]]


def test_lines_in_a_variable_and_in_an_argument_arrive() -> None:
    """A certificate; a program written out. After a daemon-reload too, which reads the unit's file again."""
    source = "import runpy\n\nrunpy.run_path('port_server.py', run_name='__main__')\n"
    url = serve("arg-lines", ["python", "-c", source], how="command", more=f"env_vars={{'CA': {LINES!r}, 'B': 'b'}}")
    alice("sudo", "systemctl", "daemon-reload")
    alice("flytectl", "app", "sleep", "arg-lines")
    asked = curl(f"{url}/do", "--data-binary", "import os; result = os.environ['CA'] + os.environ['B']")
    assert asked == (200, repr(LINES + "b"))
