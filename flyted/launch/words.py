"""Defines the constants that flyted and launch share: what one of them writes and the other reads.

This is the one file of launch that flyted imports (plan). It imports nothing of either, and reads on Python 3.10.
"""

from __future__ import annotations

import re

# Options of launch. Each has one value, but for QUOTED, after which the command follows.
APP = "--app"
START = "--start"  # the credential with the start document, which holds the other options
BUNDLE = "--bundle"
SECRET = "--secret"  # noqa: S105 - CREDENTIAL=KIND:NAME, KIND being ENV or FILE
SUMS = "--sums"
GPU = "--gpu"
PORT = "--port"
SERVER_PORT = "--server-port"
H2C = "--h2c"
READY = "--ready"
HEALTH = "--health"
SLEEP = "--sleep"
SECRET_IN_ARGV = "--secret-in-argv"  # noqa: S105
EGRESS = "--egress"
CALLS = "--calls"  # the names of the apps that it may call, separated by commas
ONLY_CALLS = "--only-calls"  # the address that is all that it reaches
SHELL = "--shell"
QUOTED = "--quoted"

# Other work of launch, each the only word of a command line.
DRAIN = "--drain"
MEASURE = "--measure"
EXPORT = "--export"
IMPORT = "--import"  # the only one with another word: what is to become of links that lead out of the data
REFUSE_LINKS, SKIP_LINKS = "refuse-links", "skip-links"

WORKDIR = "--workdir"
VOLUME = "--volume"
MOUNTED = "--mounted"  # NAME:PATH:FOLDER of a volume of the operator's

YES = "yes"
ENV, FILE = "env", "file"

ENDPOINTS = "INTERNAL_APP_ENDPOINT_PATTERN"
"""The variable from which the SDK makes the address of another app (flyte/app/_app_environment.py)."""
ENVIRONMENT, WORDS = "environment", "words"
"""Keys of the start document: the app's variables, and the rest of launch's command line."""
DEVICES, REFUSED = "devices", "refused"
"""Keys of a GPU lease: the UUIDs of the devices, or why there is none; ``ENVIRONMENT``: what a CDI spec sets."""

SECRET_FILES = "/etc/flyte/secrets"  # noqa: S105 - the only folder that Flyte's SDK knows (flyte/_secret.py)
REVISION_FOLDER = "revision"
"""The name, below an app's cache folder, of a folder that each unit has for itself."""
CODE, IMPORTED = "code", ".flyted-import"
"""Names below an app's state folder that are flyted's own: the unpacked code, and an import that goes on."""
HOST = "/usr/lib/flyted/host"
"""The folder in which the root of an image has the machine's /usr, for programs of the machine that an app needs."""
NVIDIA = "/usr/lib/flyted/nvidia"
"""The folder in which the root of an image has links to the files of NVIDIA's driver, which are below ``HOST``."""
IMAGE = "/run/flyted/image"
"""The folder in which an app finds its root once more, as it is below the folders that cover it."""
LOADERS = {
    "x86_64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
    "aarch64": ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
}
"""Processor, as uname(1) names it → the folder of the machine's libraries below /usr/lib, and ld.so(8) in it."""
BACKLOG = 4096
"""Connections that wait in the app's socket."""

# How a unit's status begins.
LOADING = "loading "  # the app's code is imported
FETCHING = "fetching "  # a parameter, of which its size is the end: FETCHED
WAITING = "waiting: "  # a start waits for something that may never come
ASLEEP, AWAKE = "asleep", "awake"  # the engine, after a request to sleep
KEEPS = "connections stay open until the ingress closes them"
"""Stands in the status of a unit whose server never closes an idle connection, unless it stops."""
FETCHED = "{:.1f} MiB"
KEPT = "the app's own files are used instead of the deployed ones: "
"""Stands in a unit's status before the names of such files, which end it."""

SLEEP_S = 60.0
"""Seconds that an engine may take to go to sleep."""
WAKE_S = {1: 60.0, 2: 180.0}
"""Level → seconds that an engine may take to wake."""

# Lines of launch among the app's own.
OURS = "flyted: "
CANNOT_START = "the app cannot start: "
NO_NETWORK = "its network was not ready"
ENDED = "the program exited"

# Exit statuses (sysexits.h).
EX_CANTCREAT = 73
EX_TEMPFAIL = 75  # a later start may succeed
EX_CONFIG = 78  # another start would change nothing

MARK = re.compile(r"%(?:([0-9A-F]{2})|\{([A-Za-z_][A-Za-z0-9_]*)?\}|\[([A-Za-z_][A-Za-z0-9_]*)\])")
"""A mark in a quoted word: a character by its code, a variable, or a variable whose value is split at its blanks."""
NOTHING = "%{}"
"""The mark of an empty text, so that a word without characters is a word."""


def host_command(program: str, architecture: str) -> list[str]:
    """Return the words that start a program of the machine in the root of an image; its arguments follow.

    ``program``: its path below /usr. It runs by the machine's own ld.so(8), with the machine's libraries, so the root
    may have others, or none. ``LD_LIBRARY_PATH`` does not count.
    """
    libraries, loader = LOADERS[architecture]
    folder, path = f"{HOST}/lib/{libraries}", f"{HOST}/{program}"
    # Debian 13 has systemd's own libraries in the first of the other two folders, Debian 12 in the second
    folders = f"{folder}:{folder}/systemd:{HOST}/lib/systemd"
    return [f"{folder}/{loader}", "--library-path", folders, "--argv0", path, path]


def variable(name: str, *, split: bool) -> str:
    """Return the mark of a variable."""
    return f"%[{name}]" if split else f"%{{{name}}}"


def quote(text: str) -> str:
    """Return a text in which nothing looks like a mark."""
    return text.replace("%", "%25")


def unquote(word: str) -> str:
    """Return the text of a quoted word without variables: the inverse of :func:`quote`."""
    return MARK.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[0], word)
