"""Makes one layer: begins its step in namespaces of its own, watches it, and leaves either a whole layer or none.

Three processes, from the unit's main process down: root of the user namespace, which sees all layers and runs nothing
of an image; one that begins the namespace of processes; and that namespace's first process, in which the step is.

unit's process: user flyted-build -- writes the map of users, gives up its two capabilities, waits
 +- root of a user namespace ------- sees all layers, watches the disk, passes the output on
     +- begins a PID namespace
         +- its process 1 ---------- mounts the overlay, makes it the root, closes mounts and namespaces (seccomp)
             +- the command -------- ends with process 1, whatever it has forked

What is uid 0 in the namespace is the user BASE = 0x70000000 of the machine, who owns the folder of layers and nothing
else, and whom no other program has.

The program mounts the overlay, not PID 1, with ``userxattr``: so PID 1 mounts nothing for a build, and after a kill
nothing is left to unmount. It needs Linux 5.12 and user namespaces, as flyted-net does. Below all layers is an empty
folder with the places for /proc, /dev, /run and the step's caches: none of them becomes part of a layer. When the
command has exited with 0, the program writes the layer to the disk (syncfs(2)) and exits with 0; only then does
flyted record it, and a folder without a record is deleted and built again. A Debian is installed in the same way, by
mmdebstrap(1).

Each step has a PID namespace of its own, because all steps are one user of the machine, and could send signals to
each other. A new /proc belongs to it. Inside a container the kernel refuses one ("mount too revealing"); then the
unit's is shown, in which processes have other numbers than in the step.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from . import bundle, debian, enter, kernel, overlay, run, stage, users, view
from .copying import Order, copy, make_folder
from .damaged import Damaged
from .failed import Failed, say
from .inside import Inside
from .job import Copy, Debian, Folder, Job, Oci
from .output import Output
from .remove import remove
from .room import LOOK_S, Limits, Room
from .unpack import unpack
from .words import DIFF, EX_CONFIG, EX_DATAERR

_END_S = 10.0


def make(job: Job, files: Mapping[str, BinaryIO], secrets: Mapping[str, str], limits: Limits, uv: str) -> int:
    """Make the job's layer in the working folder, the one of all layers, and return the exit status.

    ``files``: bundles and blobs, open, by SHA-256. ``secrets``: values by credential.

    A layer of the same name is what a killed step has left, and is removed first. Raises :class:`Failed` and
    ``OSError``.
    """
    remove([job.layer])
    for each in (*job.parents, *job.stages):
        if not os.path.isdir(f"{each}/{DIFF}"):
            raise Failed(EX_CONFIG, f"layer {each}, which this one needs, is missing")
    for name in (DIFF, "work", "scratch"):
        Path(job.layer, name).mkdir(parents=True)
    room = Room(job.layer, limits)
    try:
        status = _watched(job, files, secrets, room, uv)
        if status == 0:
            remove([f"{job.layer}/work", f"{job.layer}/scratch"])
            kernel.sync_file_system(job.layer)
            size, _ = room.taken()
            say(f"takes {size} bytes")
        else:
            remove([job.layer])
    except BaseException:
        remove([job.layer])
        raise
    return status


def _watched(job: Job, files: Mapping[str, BinaryIO], secrets: Mapping[str, str], room: Room, uv: str) -> int:
    """Run the step, and pass its output on; return its exit status. Raises :class:`Failed` if it took too much."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        for output in (1, 2):
            os.dup2(writing, output)
        os.close(writing)
        os._exit(enter.settled(lambda: _begin(job, files, secrets, uv)))
    os.close(writing)
    try:
        _listen(reading, Output(secrets.values()), room)
    except BaseException:
        os.kill(child, signal.SIGKILL)  # and the kernel kills the step
        _wait_for_end(reading)
        raise
    finally:
        os.close(reading)
        status = enter.status_of(child)
    return status


def _wait_for_end(reading: int) -> None:
    """Wait until no process of a step that was killed is left: each holds the pipe, and may still make a file."""
    until = time.monotonic() + _END_S
    while _readable(reading, max(0.0, until - time.monotonic())) and os.read(reading, 1 << 16):
        pass


def _readable(reading: int, seconds: float) -> bool:
    """Report whether data, or the end of the pipe, came within so many seconds."""
    # select(2) refuses descriptors from 1024 on
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _listen(reading: int, output: Output, room: Room) -> None:
    """Pass on what is said until all processes of the step have ended; look at the disk meanwhile."""
    due = time.monotonic()
    while True:
        if time.monotonic() >= due:
            room.check()
            due = time.monotonic() + LOOK_S
        if _readable(reading, LOOK_S):
            data = os.read(reading, 1 << 16)
            output.heard(data)
            if not data:
                return


def _begin(job: Job, files: Mapping[str, BinaryIO], secrets: Mapping[str, str], uv: str) -> int:
    kernel.die_with_parent()
    kernel.unshare(kernel.NEWPID | kernel.NEWNS)
    child = os.fork()
    if child == 0:
        kernel.die_with_parent()
        os._exit(enter.settled(lambda: _step(job, files, secrets, uv)))
    return enter.status_of(child)


def _step(job: Job, files: Mapping[str, BinaryIO], secrets: Mapping[str, str], uv: str) -> int:
    step = job.step
    if isinstance(step, Debian):
        debian.install(job.layer, step)
    elif isinstance(step, Copy):
        _copy(job, step, files)
    elif isinstance(step, Folder):
        overlay.own_tmp()
        _bare(job)
        make_folder(step.target, users.owner(step.owner))
    elif isinstance(step, Oci):
        overlay.own_tmp()
        _bare(job)
        _unpack(files[step.blob], step.media)
        _open_home()
    else:
        run.run(job, step, files, secrets, uv)
    return 0


def _bare(job: Job) -> None:
    """Make the stacked layers the root, with nothing else in it: all that is written becomes part of the layer."""
    overlay.stack(job.layer, job.parents)
    view.change_root()
    view.leave_machine()
    enter.confine()


def _copy(job: Job, step: Copy, files: Mapping[str, BinaryIO]) -> None:
    overlay.own_tmp()
    scratch = os.open(f"{job.layer}/scratch", os.O_PATH | os.O_DIRECTORY) if step.unpack else None
    tree = None if step.origin.folder else Inside(overlay.other("from", step.origin.layers))
    _bare(job)
    owner = users.owner(step.owner) if step.owner else None
    origin = "the build context" if tree is None else "the other stage"
    order = Order(step.source, step.target, owner, step.mode, step.glob, scratch, origin)
    if tree is None:
        copy(bundle.items(files[step.origin.folder]), order)
    else:
        copy(stage.items(tree, step.source, glob=step.glob), order)


def _open_home() -> None:
    """Make root's folder accessible to everybody if a base has closed it: apps are not root, and may start there."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat("/root").st_mode
        if stat.S_ISDIR(mode) and stat.S_IMODE(mode) == 0o700:
            Path("/root").chmod(0o755)


def _unpack(blob: BinaryIO, media: str) -> None:
    try:
        unpack(blob, media, "/")
    except Damaged as error:
        raise Failed(EX_DATAERR, str(error)) from error
