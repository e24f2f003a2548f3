"""Writes the tables of flyted-compat(7): ``python -m tests.compat``."""

from tests.compat.page import write

write()
