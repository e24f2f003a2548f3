"""Small images of the tests: a Dockerfile upon nothing, with a busybox, and an app that serves a page in it."""

from __future__ import annotations

import shutil

from tests.machine.kit.users import give

BUSYBOX = "/home/alice/small/image/busybox"
APP = """
import flyte, flyte.app
from pathlib import Path
env = flyte.app.AppEnvironment(
    name="{name}", requires_auth=False, port=8080, command=["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"],
    image=flyte.Image.from_dockerfile(Path(__file__).parent / "image/{name}.Dockerfile", registry="r", name="n"),
)
"""
BEGIN = ("FROM scratch", "COPY busybox /bin/busybox", "COPY busybox /bin/sh", "RUN /bin/busybox mkdir /www")


def app(name: str, *lines: str) -> str:
    """The file of an app whose Dockerfile ends with these lines, and which serves what is in its /www."""
    give(f"small/image/{name}.Dockerfile", "\n".join([*BEGIN, *lines, ""]))
    shutil.copy("/usr/bin/busybox", BUSYBOX)
    shutil.chown(BUSYBOX, "alice", "alice")
    return give(f"small/{name.replace('-', '_')}.py", APP.format(name=name))
