"""Starts the app: passes it its secrets, prepares its code and environment, then runs it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from . import (
    activation,
    argv_guard,
    control_plane,
    credentials,
    endpoints,
    fserve,
    gpu,
    network,
    start,
    surroundings,
    workdir,
)
from .expand import expand, secrets_in
from .notify import Notifier
from .options import Options, parse
from .output import Output
from .refused import Refused
from .words import CANNOT_START

if TYPE_CHECKING:
    from .adopt import Adopter

_VARIABLE = re.compile(r"\$\{?#?([A-Za-z_][A-Za-z0-9_]*)")


def main(argv: list[str]) -> int:
    """Run the app; return its exit status, or 78 (``EX_CONFIG``) if it cannot start and a restart cannot help."""
    surroundings.unbuffer()
    output = Output()
    try:
        return _start(parse(start.words(argv, os.environ)), os.environ, output)
    except gpu.NoLease as why:
        return why.status  # _take_gpu has logged it
    except Refused as why:
        surroundings.say(f"{CANNOT_START}{why}")
        return why.status
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - an error of the app: printed as Python would, without our frames
        from .failures import show

        show(error)
        return 1
    finally:
        output.finish()


def _start(options: Options, environ: MutableMapping[str, str], output: Output) -> int:
    if options.mounted:
        from . import mounted

        mounted.check(options.mounted)
    _take_gpu(options, environ)
    if options.port:
        from .supervise import supervise

        status = supervise(options, environ, credentials.values(options, environ))
        if status is not None:
            return status
    else:
        output.install()
    asked = fserve.parse(options.command)
    secrets = credentials.hand_over(options, environ)
    cache = surroundings.first(environ, "CACHE_DIRECTORY")
    place = workdir.enter(None if asked is not None and asked.pkl else options.bundle, environ, options.workdir)
    if options.volumes:
        from . import volumes

        volumes.fill(options.volumes)
    surroundings.furnish(environ, cache)
    surroundings.extend_path(environ, place.folders())
    if options.secret_in_argv:
        secrets = frozenset()
    argv_guard.install({name: environ[name] for name in secrets})
    sys.argv = [*options.command, *options.args]  # as under fserve, for a module that looks at them
    if asked is not None:
        surroundings.describe(environ, asked.project, asked.domain, asked.org)
    if options.egress:
        network.await_egress()
    elif options.only_calls:
        network.await_route(options.only_calls)
    control_plane.prepare(environ, now=asked is not None and not options.port)
    endpoints.prepare(environ, options.calls)
    if asked is None:
        return _run_program(options, options.command, environ, [])
    return _run_fserve(options, asked, environ, secrets)


def _take_gpu(options: Options, environ: MutableMapping[str, str]) -> None:
    try:
        gpu.take(options.gpu, environ)
    except gpu.NoLease as why:
        surroundings.say(f"{CANNOT_START}{why}")  # first, since the waiting clients are referred to the log
        listener = activation.listener(environ)
        if listener is not None:
            from .turn_away import turn_away

            turn_away(listener)
        raise


def _run_fserve(
    options: Options, asked: fserve.Fserve, environ: MutableMapping[str, str], secrets: frozenset[str]
) -> int:
    """Do the steps of ``main`` in flyte/_bin/serve.py, in the same order."""
    from . import environment, parameters

    given = parameters.decode(asked.parameters, environ, bind=not options.port)
    found = None
    if asked.pkl and not options.port:
        found = environment.load_pickled(options.bundle or "")
    elif asked.resolver_args and not options.port:
        # A program on a port of its own needs nothing of the module, and its import, with the SDK, is most of a wake.
        module, variable = fserve.target(asked.resolver_args)
        Notifier(environ.get("NOTIFY_SOCKET")).loading(module)
        found = environment.load(module, variable)
    parameters.publish(given, environ)
    surroundings.raw_data(environ, asked.raw_data_path)
    if getattr(found, "_server", None) is not None:
        from .lead import Lead
        from .port import Port
        from .serving import Serving

        adopter, notifier = _adopt(options, environ)
        lead = Lead(adopter, notifier, Port(options, notifier), options.app)
        if options.server_port:
            lead.begin()
        return Serving(found, given.bound, adopter, notifier, lead).run()
    if options.shell:
        return _run_program(options, ["sh", "-c", options.shell], environ, _named(options.shell, secrets))
    words = expand(options.args, environ, secrets)
    if not words:
        raise Refused("the app has neither a server function nor args")
    return _run_program(options, words, environ, secrets_in(options.args, secrets))


def _named(line: str, secrets: frozenset[str]) -> list[str]:
    """Return the secrets that a line for ``sh`` names: the programs that it starts may get them as arguments."""
    return [name for name in dict.fromkeys(_VARIABLE.findall(line)) if name in secrets]


def _run_program(options: Options, command: list[str], environ: MutableMapping[str, str], secrets: list[str]) -> int:
    from . import program

    chosen = program.plan(command)
    if not options.port and (kept := workdir.kept(environ)):
        Notifier(environ.get("NOTIFY_SOCKET")).status(kept)  # the program may send READY=1 itself
    if chosen.how == "exec":
        if secrets:
            raise Refused(
                f"program {command[0]!a} would show secret {secrets[0]} to all users in its arguments; "
                f"{argv_guard.REMEDY}"
            )
        if not options.port:
            workdir.tidy(environ)  # now, since launch will not learn when the program serves
        program.replace(chosen, command[0])
    if options.port:
        environ.setdefault("UVICORN_PORT", str(options.port))  # for a uvicorn with workers and no --port
    elif chosen.is_uvicorn:
        _adopt(options, environ)
    elif (listener := activation.listener(environ)) is not None:
        # The program's own socket activation (gunicorn's, say) needs the variables; a uvicorn inside it does not.
        _adopter(listener, Notifier(environ.get("NOTIFY_SOCKET")), options)
    return program.run(chosen)


def _adopt(options: Options, environ: MutableMapping[str, str]) -> tuple[Adopter, Notifier]:
    listener, notifier = activation.listener(environ), Notifier(environ.get("NOTIFY_SOCKET"))
    if listener is None:
        raise Refused("systemd passed no listening socket; start the app through its .socket unit")
    activation.forget(environ)
    return _adopter(listener, notifier, options), notifier


def _adopter(listener: activation.Listener, notifier: Notifier, options: Options) -> Adopter:
    from .adopt import Adopter

    adopter = Adopter(listener, notifier, options.app, options.ready)
    if not options.h2c:  # uvicorn does not speak h2c; on a port of its own that is reported (h2c.py)
        adopter.install()
    return adopter
