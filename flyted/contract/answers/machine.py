"""The answers about the daemon and its machine."""

from __future__ import annotations

from dataclasses import dataclass

from flyted.contract.answers.codec import Answer


@dataclass(frozen=True, slots=True)
class Done(Answer):
    """The answer of a verb that returns nothing."""


@dataclass(frozen=True, slots=True)
class Versions(Answer):
    """The answer of `version`."""

    version: str  # of flyted
    protocol: int  # of the control socket


@dataclass(frozen=True, slots=True)
class Check(Answer):
    """A finding of `flytectl doctor`."""

    name: str
    ok: bool | None  # None: a warning
    detail: str
    hint: str = ""  # what to type


@dataclass(frozen=True, slots=True)
class Findings(Answer):
    """The answer of `doctor`."""

    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Authority(Answer):
    """The answer of `ca.show`: the local certificate authority."""

    pem: str  # its certificate, which is public
    fingerprint: str  # SHA-256
    names: tuple[str, ...]  # that it signs for; *.NAME are the apps' hosts


@dataclass(frozen=True, slots=True)
class GatewayPlace(Answer):
    """The answer of `gateway.show`: where the flyte command and SDK find this machine."""

    host: str
    https_port: int
    ca_file: str  # path of the CA's certificate, which every user of this machine may read
