"""What the shell of Flyte's fserve makes of an app's args: compared with a real shell, word by word."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.contract.test_shell import ENV, ours

pytestmark = pytest.mark.slow

SHOW = f"{sys.executable} -c 'import sys; print(ascii(sys.argv[1:]))' "


@pytest.mark.parametrize(
    "text",
    [
        "prog --api-key=$A",
        "prog --api-key=${A} x${A}y ${A}${A} $A$A",
        'prog "--api-key=$A" "$B" \'$B\' "${B}"',
        "prog $B x$B $B-y x${B}y",  # split at its blanks
        "prog $EMPTY x",
        'prog "$EMPTY" x',
        "prog ''$EMPTY \"\"",
        "prog ''$BLANKS-x $BLANKS''",
        "prog $EMPTY$A ''",
        'prog a\\ b \\$A \\\\ \\\' "\\$A \\\\ \\n \\" \\`"',
        "prog   a\tb  ",
        "prog a\\ ",
        "prog a \\\t\\  ",
        "prog a\\\n",
        "prog a \n\n \n",
        'prog $ a$ "$" x',
        "prog $A-B ${_x9}z $_x9",
        "prog {a,b} a=b --x=~ a#b a~b ^ % @ + , : ] } {",
        'prog \'{"a": [1, 2], "b": "*"}\'',
        "prog 'a; b && c | d > e ` $(x)'",
        "prog a\\\nb",
        "prog 'a\nb' \"c\nd\"",
        "prog na\u00efve '\u00fc \u4e2d'",
    ],
)
def test_the_words_are_those_of_a_real_shell(text: str) -> None:
    """What needs no shell means what a shell makes of it."""
    line = text.replace("prog ", SHOW, 1)
    shown = subprocess.run(["/bin/sh", "-c", line], env=ENV, capture_output=True, text=True, check=True).stdout.strip()
    assert ascii(ours(text)[1:]) == shown
