"""What may come of a file, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

SERVED, GPU, VALUE, REFUSED = "served", "gpu", "value", "refused"
WRONG, NO_APP = "does not load", "no app"
"""``VALUE``: a parameter has a value that only a cluster has, so that one has to be given: ``--parameter NAME=VALUE``.
``WRONG``: the file's own error, or one of the place where it is tried."""
NEEDS_VALUE = re.compile(r"which only a Flyte cluster has|the parameter \S+ has no value")


@dataclass
class Outcome:
    """What comes of a file.

    ``kind``: one of the words above. ``why``: what is refused, or the file's own error. ``notes``: what the user is
    told of what has no effect. ``uses_tasks``: whether its code has tasks, runs, artifacts or prefetched models.
    ``stood_in``: packages that were stood in for.
    """

    kind: str
    why: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    uses_tasks: bool = False
    stood_in: list[str] = field(default_factory=list)

    @property
    def is_valid(self) -> bool:
        """Whether the file can be imported with this SDK, and has an app."""
        return self.kind not in (WRONG, NO_APP)


def reasons(outcome: Outcome) -> Iterator[str]:
    """Yield the reasons of a refusal, without the names that differ from file to file."""
    if outcome.kind == VALUE:
        yield "a parameter needs a value: --parameter"
    for text in outcome.why if outcome.kind == REFUSED else ():
        for part in re.split(r"; |asks for what flyted does not support: ", text.partition(" (hint")[0]):
            if not part.startswith("app '") or part == text:
                yield re.sub(r"'[^']*'|\"[^\"]*\"", "…", part)[:140]
