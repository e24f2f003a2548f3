"""Reads the command line, and what the unit gives: the job and secrets as credentials, bundles as files."""

from __future__ import annotations

import argparse
import encodings.idna
import encodings.latin_1
import os
from pathlib import Path
from typing import BinaryIO

from . import enter, layer, remove, words
from .failed import Failed
from .job import Job, Oci, parse
from .room import Limits
from .words import EX_CONFIG

_ = encodings.idna, encodings.latin_1  # of the machine's Python, which a step cannot see


def main(argv: list[str]) -> int:
    """Make or remove layers as ``argv`` says; return the exit status (words.py)."""
    return enter.settled(lambda: _run(argv))


def _run(argv: list[str]) -> int:
    options = _options(argv)
    if options.remove:
        return enter.as_root(lambda: _remove(options.layers, options.remove))
    job = parse(_credential(words.JOB))
    files = {name: _opened(f"{words.BUNDLES}/{name}.tar.gz") for name in job.folders}
    if isinstance(job.step, Oci):
        files[job.step.blob] = _opened(f"{words.BLOBS}/{job.step.blob}")
    secrets = {each.credential: _secret(each.credential, each.env or each.file) for each in job.secrets}
    limits = Limits(options.layer_bytes, options.layer_files, options.keep_free)
    return enter.as_root(lambda: _make(options, job, files, secrets, limits))


def _make(
    options: argparse.Namespace, job: Job, files: dict[str, BinaryIO], secrets: dict[str, str], limits: Limits
) -> int:
    os.chdir(options.layers)
    return layer.make(job, files, secrets, limits, options.uv)


def _remove(layers: str, names: list[str]) -> int:
    os.chdir(layers)
    remove.remove(names)
    return 0


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="flyted-layer", description="Makes and removes layers of images.")
    parser.add_argument(words.LAYERS, required=True, help="the folder of all layers")
    parser.add_argument(words.UV, help="the uv program, for commands that need it")
    parser.add_argument(words.LAYER_BYTES, type=int, help="disk space that a layer may use, in bytes")
    parser.add_argument(words.LAYER_FILES, type=int, help="how many files it may have")
    parser.add_argument(words.KEEP_FREE, type=int, help="bytes of disk space that have to stay free")
    parser.add_argument(words.REMOVE, default=[], type=_layer, nargs="+", help="remove these layers")
    return parser.parse_args(argv)


def _layer(text: str) -> str:
    if words.LAYER.fullmatch(text) is None:
        raise argparse.ArgumentTypeError("a layer is named by 32 hex digits")
    return text


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb", buffering=0)
    except OSError as error:
        raise Failed(EX_CONFIG, f"{path} cannot be read: {error.strerror}") from error


def _secret(credential: str, what: str) -> str:
    """Return a secret. systemd makes an empty credential of one that flyted refused."""
    try:
        value = _credential(credential).decode()
    except UnicodeDecodeError:
        raise Failed(EX_CONFIG, f"the secret for {what} is not text") from None
    if not value or "\0" in value:
        raise Failed(EX_CONFIG, f"the secret for {what} did not arrive; see journalctl -u flyted")
    return value


def _credential(name: str) -> bytes:
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder.startswith("/"):
        raise Failed(EX_CONFIG, "CREDENTIALS_DIRECTORY is not set: only units of flyted run this program")
    try:
        return Path(folder, name).read_bytes()
    except OSError as error:
        raise Failed(EX_CONFIG, f"the credential {name} cannot be read: {error.strerror}") from error
