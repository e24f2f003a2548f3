"""Parses the command line of Flyte's ``fserve`` without running that (flyte/_bin/serve.py: options of ``main``)."""

from __future__ import annotations

from .refused import Refused

PROGRAM = "fserve"
_LONG = {
    "--parameters": "parameters", "-p": "parameters", "--version": "version", "--image-cache": "image_cache",
    "--tgz": "tgz", "--pkl": "pkl", "--dest": "dest", "--raw-data-path": "raw_data_path", "-r": "raw_data_path",
    "--project": "project", "--domain": "domain", "--org": "org", "--resolver": "resolver",
    "--resolver-args": "resolver_args",
}  # fmt: skip
RESOLVER = "flyte._internal.resolvers.app_env.AppEnvResolver"


class Fserve:
    """The options of an ``fserve`` command; empty strings for those that are not given."""

    def __init__(self) -> None:
        self.parameters = self.version = self.image_cache = self.tgz = self.pkl = self.dest = ""
        self.raw_data_path = self.project = self.domain = self.org = self.resolver = self.resolver_args = ""


def parse(command: list[str]) -> Fserve | None:
    """Parse a container command; return ``None`` if its program is not ``fserve``.

    Raise ``Refused`` for an option that fserve does not have, an option without a value, or a resolver that is not the
    SDK's.
    """
    if not command or command[0].rpartition("/")[2] != PROGRAM:
        return None
    asked = Fserve()
    words = iter(command[1:])
    for word in words:
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if name not in _LONG:
            raise Refused(f"fserve has no option {name!a}: the app was made with another version of flyte")
        if not equals:
            following = next(words, None)
            if following is None:
                raise Refused(f"fserve option {name} has no value")
            value = following
        setattr(asked, _LONG[name], value)
    if asked.resolver not in ("", RESOLVER):
        raise Refused(f"app resolver {asked.resolver!a} is not known; flyted knows {RESOLVER}")
    return asked


def target(resolver_args: str) -> tuple[str, str]:
    """Return the module and the variable of the app's environment (flyte/_internal/resolvers/app_env.py).

    Raise ``Refused`` if ``resolver_args`` is not ``MODULE:VARIABLE``.
    """
    module, _, variable = resolver_args.partition(":")
    if not module or not variable or ":" in variable:
        raise Refused(f"{resolver_args!a} is not MODULE:VARIABLE")
    return module, variable
