"""The pyproject.toml of Python projects that images install."""

from __future__ import annotations


def uv_project(name: str) -> str:
    """A project that uv builds, with one dependency."""
    return f"""
[project]
name = "{name}"
version = "1"
requires-python = ">=3.10"
dependencies = ["six==1.16.0"]
[build-system]
requires = ["uv_build>=0.7"]
build-backend = "uv_build"
"""


def editable_project(name: str, library: str) -> str:
    """A project whose dependency is an editable project in the folder beside it."""
    return f"""
[project]
name = "{name}"
version = "1"
requires-python = ">=3.10"
dependencies = ["{library}"]
[tool.uv.sources]
{library} = {{ path = "../{library}", editable = true }}
"""
