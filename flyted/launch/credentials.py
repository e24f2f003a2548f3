"""Passes the secrets in ``$CREDENTIALS_DIRECTORY`` to the app: as variables, and files below ``/etc/flyte/secrets``.

When the socket that answers for a credential closes early, systemd starts the unit with an *empty* credential, without
an error. So every value is compared with the length and SHA-256 that flyted sends along (credential ``sums``). No
value is ever printed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, MutableMapping

from .options import Options, Secret
from .refused import Refused
from .words import ENV


def hand_over(options: Options, environ: MutableMapping[str, str]) -> frozenset[str]:
    """Give the app its secrets; return the names of the variables that hold one.

    Raise ``Refused`` if a value is missing, empty or damaged, or cannot be the value of a variable.
    """
    directory = environ.pop("CREDENTIALS_DIRECTORY", "")
    sums = _sums(directory, options.sums)
    names = set()
    for secret in options.secrets:
        value = _read(directory, secret)
        if sums is not None:
            _check(value, secret, sums)
        if secret.kind == ENV:
            environ[secret.name] = _text(value, secret.name)
            names.add(secret.name)
        else:
            _check_file(os.path.join(options.secret_files, secret.name), value, secret.name)
    # The variables that Flyte's own secret webhook sets in a container (flyteorg/flyte, embedded_secret_manager.go).
    environ["FLYTE_SECRETS_DEFAULT_DIR"] = options.secret_files
    environ["FLYTE_SECRETS_FILE_PREFIX"] = ""
    environ["FLYTE_SECRETS_ENV_PREFIX"] = "_FSEC_"
    return frozenset(names)


def values(options: Options, environ: Mapping[str, str]) -> list[bytes]:
    """Return the values that have arrived, unchecked: the texts that must not be printed."""
    found = []
    for secret in options.secrets:
        with contextlib.suppress(Refused):  # hand_over reports it
            found.append(_read(environ.get("CREDENTIALS_DIRECTORY", ""), secret))
    return found


def _read(directory: str, secret: Secret) -> bytes:
    try:
        with open(os.path.join(directory, secret.credential), "rb") as file:
            value = file.read()
    except OSError as error:
        raise Refused(
            f"secret {secret.name}: credential {secret.credential} did not arrive ({error.strerror})"
        ) from None
    if not value:
        raise Refused(f"secret {secret.name}: credential {secret.credential} is empty")
    return value


def _sums(directory: str, credential: str | None) -> dict[str, tuple[int, str]] | None:
    if credential is None:
        return None
    try:
        with open(os.path.join(directory, credential), "rb") as file:
            table = json.loads(file.read())
        return {name: (int(length), str(digest)) for name, (length, digest) in table.items()}
    except OSError as error:
        raise Refused(f"credential {credential} (the secrets' checksums) did not arrive ({error.strerror})") from None
    except (ValueError, TypeError, AttributeError):
        raise Refused(f"credential {credential} (the secrets' checksums) is damaged") from None


def _check(value: bytes, secret: Secret, sums: dict[str, tuple[int, str]]) -> None:
    if secret.credential not in sums:
        raise Refused(f"secret {secret.name}: there is no checksum for credential {secret.credential}")
    length, digest = sums[secret.credential]
    if len(value) != length:
        raise Refused(f"secret {secret.name}: {len(value)} bytes arrived, not {length}")
    if hashlib.sha256(value).hexdigest() != digest:
        raise Refused(f"secret {secret.name}: the value that arrived is not the one that flyted sent")


def _text(value: bytes, name: str) -> str:
    if b"\0" in value:
        raise Refused(f"secret {name} holds a NUL byte: it cannot be a variable, ask for it as a file")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(f"secret {name} is not UTF-8: it cannot be a variable, ask for it as a file") from None


def _check_file(path: str, value: bytes, name: str) -> None:
    """Raise ``Refused`` unless the file at ``path`` holds the value.

    The unit mounts the credential itself at ``path`` (``BindReadOnlyPaths=``), so nothing is copied here.
    """
    try:
        with open(path, "rb") as file:
            seen = file.read()
    except OSError as error:
        raise Refused(f"secret {name} is not at {path} ({error.strerror})") from None
    if seen != value:
        raise Refused(f"{path} holds another value than secret {name}")
