"""The exception tree: every failure that a user may see.

An error crosses the control socket as (code, message, hint). The message says what failed and why, the hint
what to type next. ``exit_status`` is what ``flytectl`` exits with; ``http_status`` is for the gateway.
"""

from __future__ import annotations

NOT_HERE = "flyted serves apps; tasks, runs, triggers and artifacts need a Flyte cluster"
"""The message for every request for a part of Flyte that flyted does not have."""


class FlytedError(Exception):
    """The root of the tree. It is raised itself only for faults of flyted."""

    code = "internal"
    exit_status = 1
    http_status = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_wire(self) -> dict[str, str]:
        """Return the fields that cross the socket: code, message and hint."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class InvalidInput(FlytedError):
    """A value that is refused whatever the state of the machine: a bad name, size, type or combination."""

    code, exit_status, http_status = "invalid", 2, 400


class SdkMissing(InvalidInput):
    """A chosen Python without the Flyte SDK."""

    code = "sdk-missing"


class Unsupported(FlytedError):
    """A field of the SDK that this machine cannot honour. The message names it; it is never ignored."""

    code, exit_status, http_status = "unsupported", 2, 501


class NoGpu(Unsupported):
    """A request for GPUs that this machine does not have; the message has the arithmetic."""

    code = "no-gpu"


class NotFound(FlytedError):
    """An app, revision or file that does not exist."""

    code, exit_status, http_status = "not-found", 4, 404


class SecretNotFound(NotFound):
    """A secret that is not in the store, at the scope asked for."""

    code = "secret-not-found"


class AlreadyExists(FlytedError):
    """A name that is taken: the request is refused so that nothing is overwritten by accident."""

    code, exit_status, http_status = "already-exists", 5, 409


class Busy(FlytedError):
    """Another operation on the same app, secret or file is in progress."""

    code, exit_status, http_status = "busy", 5, 409


class Cancelled(FlytedError):
    """What a client waited for was ended because it left; only a client that waits for this answer hears of it."""

    code, exit_status, http_status = "cancelled", 130, 499


class PermissionRefused(FlytedError):
    """An operation that the caller may not do."""

    code, exit_status, http_status = "permission", 6, 403


class Unauthenticated(FlytedError):
    """No token, or one that is not valid (any more). The message does not say which: that would help to guess."""

    code, exit_status, http_status = "unauthenticated", 6, 401


class LimitReached(FlytedError):
    """A request for more of something than one user may have."""

    code, exit_status, http_status = "limit", 5, 429


class DaemonUnavailable(FlytedError):
    """No answer from flyted."""

    code, exit_status, http_status = "daemon-unavailable", 7, 503


class ProtocolMismatch(FlytedError):
    """Different versions of client and daemon, or bytes that are not the protocol's."""

    code, exit_status, http_status = "protocol", 7, 502


class DeployFailed(FlytedError):
    """A new revision that did not become ready; the old one keeps serving."""

    code, exit_status, http_status = "deploy-failed", 8, 500


class BuildFailed(DeployFailed):
    """An image of an app that could not be built."""

    code = "build-failed"


class StoreCorrupt(FlytedError):
    """A secret file, manifest or database that is not as flyted wrote it: refused by name, its content not guessed."""

    code, exit_status, http_status = "store-corrupt", 9, 500


class HostFailure(FlytedError):
    """A failure of the machine: a full disk, or a refusal by systemd or HAProxy."""

    code, exit_status, http_status = "host", 9, 500


class IngressDown(HostFailure):
    """No answer from HAProxy. Its files are written all the same, and it serves by them when it starts."""

    code, http_status = "ingress-down", 503


class UserCodeFailed(FlytedError):
    """A user's file that raised, or cannot be imported. ``traceback`` holds the user's own frames, or ""."""

    code, exit_status, http_status = "user-code", 3, 400

    def __init__(self, message: str, *, hint: str = "", traceback: str = "") -> None:
        super().__init__(message, hint=hint)
        self.traceback = traceback


class PackageMissing(UserCodeFailed):
    """A package that the user's file imports and the chosen Python lacks: ``module``, "" if its name is not known."""

    code = "package-missing"

    def __init__(self, message: str, *, hint: str = "", traceback: str = "", module: str = "") -> None:
        super().__init__(message, hint=hint, traceback=traceback)
        self.module = module


class SdkUnfit(UserCodeFailed):
    """A Flyte SDK in the chosen Python that is damaged, or of a version that flytectl cannot use."""

    code = "sdk-unfit"


def _tree(cls: type[FlytedError]) -> list[type[FlytedError]]:
    return [cls, *(c for sub in cls.__subclasses__() for c in _tree(sub))]


def from_wire(code: str, message: str, hint: str) -> FlytedError:
    """Return the error that the other side raised; one with an unknown code (a newer daemon) is a FlytedError."""
    cls = next((c for c in _tree(FlytedError) if c.code == code), FlytedError)
    return cls(message, hint=hint)
