"""A postponed module is loaded at its first use; one that is left out never."""

import subprocess
import sys

import pytest

LATE = """
import sys
from flyted.base import late_modules
late_modules.postpone("csv", "graphlib", "colorsys")
import csv
import colorsys
from graphlib import TopologicalSorter
"""


def run(program: str) -> str:
    words = [sys.executable, "-c", LATE + program]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("print(type(csv).__name__, type(colorsys).__name__)", "_LazyModule _LazyModule"),
        ("print(csv.QUOTE_ALL, type(csv).__name__)", "1 module"),
        ("print(*TopologicalSorter({1: [2]}).static_order())", "2 1"),
        ("import csv\nprint(csv is sys.modules['csv'], type(csv).__name__)", "True module"),
        ("print(type(sys.modules.get('_csv')).__name__)", "NoneType"),
    ],
)
def test_a_module_is_loaded_when_it_is_used(program: str, said: str) -> None:
    assert run(program) == said


def test_a_module_that_does_not_exist_is_missing_as_ever() -> None:
    assert run(
        "late_modules.postpone('no_such')\ntry:\n    import no_such\nexcept ModuleNotFoundError as e:\n    print(e)"
    ) == "No module named 'no_such'"  # fmt: skip


def test_a_module_that_is_left_out_has_nothing() -> None:
    """A package that imports names from it works: this is what the daemon leaves out."""
    ssh = "cryptography.hazmat.primitives.serialization.ssh"
    program = f"""
late_modules.leave_out("{ssh}")
from cryptography.hazmat.primitives import serialization
print(serialization.load_ssh_public_key, serialization.Encoding.__name__)
"""
    assert run(program) == "None Encoding"
