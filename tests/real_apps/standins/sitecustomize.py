"""Stands in for packages that an app file imports and that nothing of it needs before the app runs.

Python imports this module at its start if its folder is on PYTHONPATH. The packages are named in a variable, by
tests/real_apps/one.py, which first saw that they are missing.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import types

NAMES = frozenset(os.environ.get("REAL_APPS_STAND_INS", "").split())


class Anything(type):
    """A class whose attributes are such classes, which can be called, subclassed and used to decorate."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _made(name)

    def __call__(cls, *args, **kwargs):
        if not cls.__dict__.get("stands_in"):
            return super().__call__(*args, **kwargs)
        return args[0] if len(args) == 1 and not kwargs and callable(args[0]) else _made(cls.__name__)

    def __iter__(cls):
        return iter(())

    def __getitem__(cls, key):
        return _made(cls.__name__)


def _made(name):
    return Anything(name, (), {"stands_in": True, "__init__": lambda self, *args, **kwargs: None})


class Module(types.ModuleType):
    """A module that has every name."""

    __path__: "list[str]" = []  # noqa: RUF012

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _made(name)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the packages that are named, and all their modules; asked last."""

    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in NAMES:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return Module(spec.name)

    def exec_module(self, module):
        pass


if NAMES:
    sys.meta_path.append(Finder())
