"""An app's request for GPUs: Flyte's ``resources.gpu`` and flytectl's ``--gpu``, in one form.

Flyte's SDK turns ``"L40s:1"`` into the device ``nvidia-l40s`` and ``"A100 80G:2"`` into ``nvidia-a100-80gb``. Names
that it does not know it passes on as they are (``RTX PRO 6000``); a plain number has no device
(flyte/_internal/runtime/resources_serde.py). Here a name consists of the product's words as NVIDIA writes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from flyted.contract.errors import InvalidInput
from flyted.contract.names import printable

ANY = "any"
MAX_GPUS = 16  # the most that one machine has; CUDA itself stops at 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}")
_PARTITION = re.compile(r"[1-9]g\.[0-9]{1,3}gb(?:\+[a-z0-9.]{1,8})?")
_MAKER = {"NVIDIA", "TESLA", "GEFORCE", "QUADRO"}
_GIGABYTES = re.compile(r"([0-9]{1,4})GB?")


@dataclass(frozen=True)
class Ask:
    """A request for ``count`` GPUs, or with ``partition`` for one MIG slice such as ``1g.5gb``.

    ``name`` is the product, "" for any. The default asks for no GPU.
    """

    count: int = 0
    name: str = ""
    partition: str = ""

    def __post_init__(self) -> None:
        """Raise :class:`InvalidInput` for a request that no machine can meet."""
        if type(self.count) is not int or not 0 <= self.count <= MAX_GPUS:
            raise InvalidInput(f"gpu: {printable(self.count)} is not a number of GPUs, 0 to {MAX_GPUS}")
        if self.name and _NAME.fullmatch(self.name) is None:
            raise InvalidInput(
                f"gpu: {printable(self.name)} is not a GPU's name", hint="write it as 'L40S' or 'A100 80GB'"
            )
        if self.partition and _PARTITION.fullmatch(self.partition) is None:
            raise InvalidInput(f"gpu: {printable(self.partition)} is not a MIG partition", hint="write it as '1g.5gb'")
        if self.partition and self.count != 1:
            raise InvalidInput("gpu: CUDA uses one MIG partition per process", hint="ask for one partition")
        if not self.count and (self.name or self.partition):
            raise InvalidInput("gpu: a name without a number of GPUs")

    def __str__(self) -> str:
        """Return the request as people write it: ``2 × A100 80GB``, ``1 × GPU``, ``1 × A100 1g.5gb``."""
        return f"{self.count} × {' '.join(filter(None, (self.name or 'GPU', self.partition)))}"


NONE = Ask()


def words(name: str) -> tuple[str, ...]:
    """Return the words that distinguish a product from others: ``NVIDIA A100-SXM4-80GB`` → ``A100 SXM4 80GB``."""
    found = (word.upper() for word in re.split(r"[\s_/()-]+", name) if word)
    return tuple(_GIGABYTES.sub(r"\1GB", word) if _GIGABYTES.fullmatch(word) else word for word in found
                 if word not in _MAKER)  # fmt: skip


def of_device(device: str, count: int, partition: str = "") -> Ask:
    """Return the request that Flyte's device string stands for; "" is any device.

    Raise :class:`InvalidInput` for a bad name and for a request that no machine can meet.
    """
    plain = device.strip()
    if plain and _NAME.fullmatch(plain) is None:
        raise InvalidInput(f"gpu: {printable(device)} is not a GPU's name", hint="see flyte.Resources(gpu=…)")
    return Ask(count, " ".join(words(plain)), partition.lower())


def of_flag(text: str) -> Ask:
    """Read the value of ``--gpu``: ``any``, ``any:2``, ``NAME``, ``NAME:N`` or ``NAME/PARTITION``.

    Raise :class:`InvalidInput` for any other text and for a request that no machine can meet.
    """
    name, _, number = text.partition(":")
    name, _, partition = name.partition("/")
    if number and not (is_number(number) and 1 <= int(number) <= MAX_GPUS):
        raise InvalidInput(f"--gpu {printable(text)}: the number of GPUs is 1 to {MAX_GPUS}", hint="--gpu any:2")
    if not name.strip():
        raise InvalidInput(f"--gpu {printable(text)} is not a GPU", hint="--gpu any, or --gpu L40S:1")
    return of_device("" if name.strip().lower() == ANY else name, int(number or 1), partition.strip())


def is_number(text: str) -> bool:
    """Report whether a text is a number of GPUs in digits: no more of them than int() would read."""
    return text.isascii() and text.isdigit() and len(text) <= 4


def gigabytes(word: str) -> int:
    """Return 80 for the word ``80GB``, and 0 for a word that is no size in GB."""
    found = _GIGABYTES.fullmatch(word)
    return int(found[1]) if found else 0
