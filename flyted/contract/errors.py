"""The exception tree: every failure that a user may see.

An error crosses the control socket as (code, message, hint). The message says what failed and why, the hint
what to type next. ``exit_status`` is what ``flytectl`` exits with; ``http_status`` is for the gateway.
"""

from __future__ import annotations

NOT_HERE = "flyted serves apps; tasks, runs, triggers and artifacts need a Flyte cluster"
"""Said wherever somebody asks for the rest of Flyte."""


class FlytedError(Exception):
    """The root. Raised itself only for faults of ours."""

    code = "internal"
    exit_status = 1
    http_status = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_wire(self) -> dict[str, str]:
        """What crosses the socket."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class InvalidInput(FlytedError):
    """A value that we refuse whatever the state of the machine: a bad name, size, type or combination."""

    code, exit_status, http_status = "invalid", 2, 400


class SdkMissing(InvalidInput):
    """The Python that was chosen has no Flyte SDK."""

    code = "sdk-missing"


class Unsupported(FlytedError):
    """A field of the SDK that this machine cannot honour; named, never ignored."""

    code, exit_status, http_status = "unsupported", 2, 501


class NoGpu(Unsupported):
    """An app asks for GPUs that this machine does not have; the message has the arithmetic."""

    code = "no-gpu"


class NotFound(FlytedError):
    """An app, revision or file that does not exist."""

    code, exit_status, http_status = "not-found", 4, 404


class SecretNotFound(NotFound):
    """A secret that is not in the store, at the scope asked for."""

    code = "secret-not-found"


class AlreadyExists(FlytedError):
    """Refused so that nothing is overwritten by accident."""

    code, exit_status, http_status = "already-exists", 5, 409


class Busy(FlytedError):
    """Something else is being done to the same thing right now."""

    code, exit_status, http_status = "busy", 5, 409


class PermissionRefused(FlytedError):
    """The caller may not do this."""

    code, exit_status, http_status = "permission", 6, 403


class Unauthenticated(FlytedError):
    """No token, or one that is not (or no longer) good. Says nothing about which: that would help to guess."""

    code, exit_status, http_status = "unauthenticated", 6, 401


class LimitReached(FlytedError):
    """There are as many of these as one user may have."""

    code, exit_status, http_status = "limit", 5, 429


class DaemonUnavailable(FlytedError):
    """flyted does not answer."""

    code, exit_status, http_status = "daemon-unavailable", 7, 503


class ProtocolMismatch(FlytedError):
    """Client and daemon are of different versions, or the bytes make no sense."""

    code, exit_status, http_status = "protocol", 7, 400


class DeployFailed(FlytedError):
    """A new revision did not come up; the old one keeps serving."""

    code, exit_status, http_status = "deploy-failed", 8, 500


class BuildFailed(DeployFailed):
    """The image of an app could not be built."""

    code = "build-failed"


class StoreCorrupt(FlytedError):
    """A secret file, the manifest or the database is not what we wrote: refused, named, never guessed."""

    code, exit_status, http_status = "store-corrupt", 9, 500


class HostFailure(FlytedError):
    """The machine refused: disk full, systemd or HAProxy said no."""

    code, exit_status, http_status = "host", 9, 500


class IngressDown(HostFailure):
    """HAProxy does not answer. The ingress's files are written all the same: it serves them when it starts."""

    code, http_status = "ingress-down", 503


class UserCodeFailed(FlytedError):
    """The user's own file raised, or cannot be imported. ``traceback`` holds the user's own frames, or ""."""

    code, exit_status, http_status = "user-code", 3, 400

    def __init__(self, message: str, *, hint: str = "", traceback: str = "") -> None:
        super().__init__(message, hint=hint)
        self.traceback = traceback


class PackageMissing(UserCodeFailed):
    """The Python that was chosen has no ``module`` ("" if its name is not known), which the user's file imports."""

    code = "package-missing"

    def __init__(self, message: str, *, hint: str = "", traceback: str = "", module: str = "") -> None:
        super().__init__(message, hint=hint, traceback=traceback)
        self.module = module


class SdkUnfit(UserCodeFailed):
    """The Flyte SDK of the Python that was chosen is damaged, or of a version that flytectl cannot use."""

    code = "sdk-unfit"


def _tree(cls: type[FlytedError]) -> list[type[FlytedError]]:
    return [cls, *(c for sub in cls.__subclasses__() for c in _tree(sub))]


def from_wire(code: str, message: str, hint: str) -> FlytedError:
    """The error that the other side raised; an unknown code (a newer daemon) stays readable."""
    cls = next((c for c in _tree(FlytedError) if c.code == code), FlytedError)
    return cls(message, hint=hint)
