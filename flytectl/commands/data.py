"""``flytectl data …``: list, export, import and remove what apps keep."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from flytectl.complete import complete_app, complete_data
from flytectl.confirm import DECLINED, can_ask, confirmed, may_delete, scope_words, yes_option
from flytectl.options import app_scope, as_json, out, say

if TYPE_CHECKING:
    from flyted.contract.answers.apps import Kept

_FILE = click.argument("file", type=click.Path(readable=False, allow_dash=True))
_STDIO = "-"


@click.command()
@as_json
def ls(*, json_: bool) -> None:
    """List what apps keep, also deleted ones."""
    from flytectl import render, tables
    from flytectl.daemon import call
    from flyted.contract.answers.data import DataList

    folders = call(DataList, "data.list").folders
    if json_:
        out(render.to_json({"folders": folders}))
    elif folders:
        out(tables.data_table(folders))
    else:
        say("no app keeps data")


@click.command()
@click.argument("name", metavar="APP", shell_complete=complete_data)
@app_scope
@as_json
def path(name: str, project: str, domain: str, *, json_: bool) -> None:
    """Print the folder of an app's data.

    Only root can enter it.
    """
    from flytectl import render
    from flyted.contract.errors import NotFound

    found = _kept(name, project, domain).data
    if found is None:
        raise NotFound(f"app '{name}' keeps no data yet", hint="flytectl data ls")
    out(render.to_json({"folder": found.folder}) if json_ else render.safe(found.folder))


@click.command()
@click.argument("name", metavar="APP", shell_complete=complete_data)
@_FILE
@app_scope
@as_json
def export(name: str, file: str, project: str, domain: str, *, json_: bool) -> None:
    """Write an app's data to a new tar archive.

    FILE may be -, for standard output. Stop the app first if the files have to agree with each other. Only root and
    the user who deployed the app may.
    """
    from flytectl import render
    from flytectl.daemon import call
    from flyted.contract.answers.data import Exported

    args = {"project": project, "domain": domain, "name": name}
    with _written(file) as target:
        done = call(Exported, "data.export", args, file=target)
    if json_:
        (say if file == _STDIO else out)(render.to_json(done))
        return
    say(f"{render.safe(name)}: {_amount(done.files, done.bytes)} exported")
    if done.changed:
        say("note: files changed meanwhile; for files that agree with each other, stop the app first")
    if done.left_out:
        say(f"note: left out: {render.counted(done.left_out, 'socket, pipe or device file')}")


@click.command("import")
@click.argument("name", metavar="APP", shell_complete=complete_app)
@_FILE
@click.option("--skip-links", is_flag=True, help="Leave out links that lead out of the data, instead of refusing.")
@app_scope
@yes_option
@as_json
def import_(name: str, file: str, project: str, domain: str, *, skip_links: bool, yes: bool, json_: bool) -> int:
    """Replace an app's data by an archive.

    FILE is one of 'data export', or - for standard input. The app has to be stopped, or not served yet. All of the
    archive is imported, or nothing is changed.
    """
    from flytectl import render
    from flytectl.daemon import call
    from flyted.contract.answers.data import Imported

    with _read(file) as source:
        if not yes and not _may_replace(name, file, project, domain):
            return DECLINED
        args = {"project": project, "domain": domain, "name": name, "replace": True, "skip_links": skip_links}
        done = call(Imported, "data.import", args, file=source.fileno())
    if json_:
        out(render.to_json(done))
        return 0
    say(f"{render.safe(name)}: {_amount(done.files, done.bytes)} imported")
    if done.left_out:
        say(f"note: left out: {render.counted(done.left_out, 'link')} that lead out of the data")
    return 0


@click.command()
@click.argument("names", metavar="APP...", nargs=-1, required=True, shell_complete=complete_data)
@app_scope
@yes_option
@as_json
def rm(names: tuple[str, ...], project: str, domain: str, *, yes: bool, json_: bool) -> int:
    """Delete the data of stopped or deleted apps."""
    from flytectl import render
    from flytectl.daemon import call
    from flytectl.each import each
    from flyted.contract.answers.data import DataFolder

    if not yes:
        typed = _typed("rm", project, domain, *names)
        lost = [_lost(name, project, domain) for name in names] if can_ask() else []
        if not may_delete(lost, "Delete this data?", typed):
            return DECLINED

    def remove(name: str) -> list[DataFolder]:
        gone = call(DataFolder, "data.remove", {"project": project, "domain": domain, "name": name})
        if not json_:
            out(f"{render.safe(name)}: data deleted")
        return [gone]

    return each(names, remove, "folders", as_json=json_)


def _kept(name: str, project: str, domain: str) -> Kept:
    from flytectl.daemon import call
    from flyted.contract.answers.apps import Kept

    return call(Kept, "app.data", {"project": project, "domain": domain, "name": name})


def _may_replace(name: str, file: str, project: str, domain: str) -> bool:
    """Show what an import would replace, and ask; there is nothing to ask for an app without files."""
    from flyted.contract.errors import NotFound

    try:
        data = _kept(name, project, domain).data
    except NotFound:
        return True
    if data is None or not data.files:
        return True
    told = [_lost(name, project, domain)] if can_ask() and file != _STDIO else []
    typed = _typed("import", project, domain, name, file)
    return confirmed(told, "Replace this data?", "the import", typed, "nothing was imported")


def _lost(name: str, project: str, domain: str) -> str:
    from flytectl import losses

    return losses.of_data(name, _kept(name, project, domain))


def _typed(verb: str, project: str, domain: str, *words: str) -> str:
    from shlex import join

    return join(["flytectl", "data", verb, "--yes", *words, *scope_words(project, domain, "default", "development")])


def _amount(files: int, size: int) -> str:
    from flytectl.render import counted
    from flyted.contract.quantity import human_bytes

    return f"{counted(files, 'file')}, {human_bytes(size)},"


@contextlib.contextmanager
def _written(file: str) -> Iterator[int]:
    """Yield the descriptor of a new file, which gets its name when the block ends without an error.

    Raise AlreadyExists if there is one, InvalidInput for one that cannot be made, and for a terminal.
    """
    from flyted.contract.errors import AlreadyExists, InvalidInput

    if file == _STDIO:
        if sys.stdout.isatty():
            raise InvalidInput("an archive is not for a terminal", hint="name a file, or send it on: … - | ssh HOST …")
        with _pipe(sys.stdout.buffer) as target:
            yield target
        return
    if os.path.lexists(file):
        raise AlreadyExists(f"{file} exists already", hint="name another file, or delete that one")
    part = f"{file}.{os.getpid()}.part"
    try:
        target = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidInput(
            f"{file} cannot be written: {error.strerror}", hint="name a file in another folder"
        ) from None
    try:
        yield target
        os.fsync(target)
        _publish(part, file)
    finally:
        os.close(target)
        Path(part).unlink(missing_ok=True)


def _publish(part: str, file: str) -> None:
    """Give a file its name. Raise AlreadyExists if there is one by now."""
    from flyted.contract.errors import AlreadyExists

    try:
        os.link(part, file)  # unlike a rename, it replaces no file
    except FileExistsError:
        raise AlreadyExists(f"{file} exists already", hint="name another file, or delete that one") from None
    except OSError:  # a file system without hard links
        os.replace(part, file)  # noqa: PTH105


@contextlib.contextmanager
def _pipe(target: IO[bytes]) -> Iterator[int]:
    """Yield the end of a pipe that is copied to ``target``, whatever kind of file that is: a socket, say."""
    import shutil
    import threading

    reading, writing = os.pipe()
    failed: list[BaseException] = []

    def copy() -> None:
        with os.fdopen(reading, "rb", buffering=0) as source:
            try:
                shutil.copyfileobj(source, target, 1 << 16)
                target.flush()
            except OSError as error:  # the reader has gone; flyted's end of the pipe hears of it by EPIPE
                failed.append(error)

    copier = threading.Thread(target=copy, daemon=True)
    copier.start()
    try:
        yield writing
    finally:
        os.close(writing)
        copier.join()
    if failed:
        raise failed[0]


@contextlib.contextmanager
def _read(file: str) -> Iterator[IO[Any]]:
    """Yield an archive that is open for reading. Raise InvalidInput if it cannot be opened."""
    from flyted.contract.errors import InvalidInput

    if file == _STDIO:
        yield sys.stdin.buffer
        return
    try:
        source = open(file, "rb", buffering=0)  # noqa: PTH123, SIM115  importing pathlib takes milliseconds
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}", hint="flytectl data import APP FILE") from None
    with source:
        yield source
