"""Calls of Flyte's control plane in an app's code are said before it is served, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from flyted.contract import calls
from flyted.launch import control_plane


def said(text: str, *given: str) -> list[str]:
    return list(calls.notes({"main.py": text}, set(given)))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import flyte\nasync def f():\n    return flyte.run(add, x=1)\n", "flyte.run"),
        ("import flyte as fl\nasync def f():\n    return await fl.run.aio(add, x=1)\n", "flyte.run"),
        ("from flyte import run as go\ndef f():\n    return go(add)\n", "flyte.run"),
        ("def f():\n    import flyte.remote\n    return flyte.remote.Task.get('t')\n", "flyte.remote.Task.get"),
        ("import flyte.remote as r\nx = lambda: r.App.listall()\n", "flyte.remote.App.listall"),
        ("from flyte.remote import Run\ndef f():\n    return Run.get('r').wait()\n", "flyte.remote.Run.get"),
        ("import flyte\ndef f():\n    return flyte.with_runcontext(name='x').run(add)\n", "flyte.with_runcontext"),
    ],
)
def test_a_call_that_fails_is_named(text: str, name: str) -> None:
    """However it is imported, and wherever it stands."""
    [note] = said(text)
    assert f"calls {name}, which" in note
    for variable in calls.NAMED_BY:
        assert not said(text, variable)


@pytest.mark.parametrize(
    "text",
    [
        "import flyte\nif __name__ == '__main__':\n    flyte.init_from_config()\n    flyte.serve(env)\n",
        "import flyte\nflyte.init(endpoint='dns:///cluster')\ndef f():\n    return flyte.run(add)\n",
        "import flyte\nt = flyte.TaskEnvironment(name='t')\n@t.task\nasync def f():\n    return flyte.run(add)\n",
        "import flyte\ndef f():\n    return flyte.with_runcontext(mode='local').run(add)\n",
        "import flyte, uvicorn\ndef f():\n    uvicorn.run(app)\n    flyte.current_project()\n",
        "# flyte\nrun()\nremote.App.get()\n",
        "import flyte\nthis is no Python: flyte.run()",
        "import flyte\nx = " + "-" * 9000 + "flyte.run()\n",
    ],
)
def test_other_calls_are_not(text: str) -> None:
    """Scripts' last lines, tasks, apps that name a cluster, local runs, other modules."""
    assert not said(text)


def test_what_names_a_cluster_is_the_same_here_and_at_run_time() -> None:
    """launch imports nothing of ours, so it has a list of its own."""
    assert calls.NAMED_BY == control_plane.NAMED_BY
