"""What of the Flyte SDK flyted honours: the tables of flyted-compat(7), and what they are compared with.

``python -m tests.compat`` writes them into the page. Tests fail until each field, command and method of each version
of the SDK that flyted supports has its row (``versions.py``), and a machine runs every command
(tests/machine/test_flyte_commands.py).
"""
