"""Renders tables of models, images, tokens and GPUs for people."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flytectl.render import counted, safe, table
from flytectl.times import day, for_people
from flyted.contract.answers.data import DataFolder
from flyted.contract.answers.domains import DomainStatus, RevocationStatus
from flyted.contract.answers.gpus import GpuList, GpuStatus, LeaseStatus
from flyted.contract.answers.images import ImageEntry, Pruned, PulledImage, Rebuilt
from flyted.contract.answers.models import ModelStatus
from flyted.contract.answers.tokens import TokenStatus
from flyted.contract.answers.volumes import VolumeStatus
from flyted.contract.names import DEFAULT_DOMAIN, DEFAULT_PROJECT
from flyted.contract.quantity import human_bytes

_HASH = 12
"""Digits of an image's hash in a table: enough to name it."""
_DIGEST = re.compile(rf"(@sha256:[0-9a-f]{{{_HASH}}})[0-9a-f]+")


def models_table(models: Sequence[ModelStatus]) -> str:
    """Return the text of ``flytectl model ls``: a row per model, with the problem that keeps apps from using it."""
    rows = [[model.name, model.problem or human_bytes(model.bytes), model.folder] for model in models]
    return table(["NAME", "SIZE", "FOLDER"], rows)


def data_table(folders: Sequence[DataFolder]) -> str:
    """Return the text of ``flytectl data ls``: a row per app, with what it asks for if that is exceeded."""
    rows = [[_data_name(each), _data_size(each), each.owner or "-", each.folder] for each in folders]
    return table(["APP", "SIZE", "OWNER", "FOLDER"], rows)


def _data_name(data: DataFolder) -> str:
    plain = (data.project, data.domain) == (DEFAULT_PROJECT, DEFAULT_DOMAIN)
    name = data.name if plain else f"{data.project}/{data.domain}/{data.name}"
    return name if data.known else f"{name} (deleted)"


def _data_size(data: DataFolder) -> str:
    size = f"{'' if data.complete else 'at least '}{human_bytes(data.bytes)}"
    return f"{size} of {human_bytes(data.disk_bytes)}" if data.disk_bytes else size


def volumes_table(volumes: Sequence[VolumeStatus]) -> str:
    """Return the text of ``flytectl volume ls``: a row per volume, with the problem that keeps apps from using it."""
    rows = [
        [each.name, each.problem or ("ro" if each.read_only else "rw"), ", ".join(each.apps) or "-", each.folder]
        for each in volumes
    ]
    return table(["NAME", "MODE", "APPS", "FOLDER"], rows)


def domains_table(domains: Sequence[DomainStatus]) -> str:
    """Return the text of ``flytectl domain ls``: a row per domain, with what is wrong with it."""
    rows = [
        [
            each.domain, each.certificate, each.issuer or "-", day(each.not_after) or "-",
            f"{each.state}; redirects to {each.redirect}" if each.redirect else each.state,
        ]
        for each in domains
    ]  # fmt: skip
    return table(["DOMAIN", "CERTIFICATE", "ISSUER", "UNTIL", "STATE"], rows)


def domain_text(found: DomainStatus) -> str:
    """Return the text of ``flytectl domain get``."""
    kinds = {
        "own-ca": "signed by this machine", "file": f"given by the operator, signed by {found.issuer or '?'}",
        "acme": f"ordered from {found.server}" + (f", proved by DNS at {found.dns}" if found.dns else ""),
    }  # fmt: skip
    facts = {
        "Domain": found.domain,
        "URLs": f"https://APP.{found.domain}" + (" (shown as the apps' URL)" if found.shown else ""),
        "Redirects": f"to https://APP.{found.redirect}" if found.redirect else "",
        "API": f"https://{found.api}{found.port}" if found.api else "",
        "Certificate": kinds.get(found.certificate, found.certificate),
        "SHA-256": found.fingerprint,
        "Valid": f"{day(found.not_before)} to {day(found.not_after)}" if found.not_after else "",
        "Authority": f"SHA-256 {found.authority} (flytectl ca show {found.domain})" if found.authority else "",
        "Meanwhile": f"names without one show the certificate that you gave, until {day(found.given_until)}"
        if found.given_until
        else "",
        "Problem": found.problem,
        "Do": found.hint,
    }
    lines = [f"{name:<12} {safe(value)}" for name, value in facts.items() if value]
    if found.orders:
        rows = [
            [
                each.name,
                each.issuer or "-",
                day(each.not_after) or "-",
                each.problem or ("ok" if each.issuer else "ordered"),
            ]
            for each in found.orders
        ]
        lines += ["", table(["NAME", "ISSUER", "UNTIL", "STATE"], rows)]
    if found.revocations:
        rows = [[each.name, each.fingerprint, _revocation(each)] for each in found.revocations]
        lines += ["", table(["TO BE REVOKED", "SHA-256", "STATE"], rows)]
    return "\n".join(lines)


_WAITS = {"certificate": "waits for a new certificate", "ingress": "waits for the ingress to take the new one"}


def _revocation(status: RevocationStatus) -> str:
    return status.problem or _WAITS.get(status.waits_for, "the authority is asked")


def images_table(images: Sequence[ImageEntry]) -> str:
    """Return the text of ``flytectl image ls``: a row per image."""
    rows = [
        [
            image.hash[:_HASH],
            image.python or "-",
            str(image.packages or "-"),
            _size(image),
            day(image.built_at),
            _bases(image),
            _users(image),
        ]
        for image in images
    ]
    return table(["HASH", "PYTHON", "PACKAGES", "SIZE", "BUILT", "FROM", "USED BY"], rows)


def image_text(image: ImageEntry) -> str:
    """Return the text of ``flytectl image get``."""
    facts = {
        "Hash": image.hash,
        "Python": image.python or "none",
        "From": ", ".join(f"{name} ({digest})" for name, digest in image.digests),
        "Note": image.note,
        "Rebuilt as": image.rebuilt_as,
        "Size": _size(image) + (f", {image.packages} packages" if image.packages else ""),
        "Built": day(image.built_at),
        "From source": ", ".join(image.built),
        "Used by": ", ".join(image.used_by) or "no app",
    }
    lines = [f"{name + ':':<13}{safe(value)}" for name, value in facts.items() if value]
    for layer in image.layers:
        took = f" ({layer.seconds:.1f} s)" if layer.seconds else ""
        lines += [f"{safe(layer.source)}{took}", *(f"  {safe(each)}" for each in layer.requirements)]
    return "\n".join(lines)


def pulled_text(image: PulledImage) -> str:
    """Return the text of ``flytectl image pull``."""
    what = f"{counted(image.layers, 'layer')}, {human_bytes(image.bytes)}"
    known = f"image {safe(image.hash[:_HASH])}: {what}; kept for a week after its last use"
    return f"{safe(image.name)} is {safe(image.digest)}\n{known}"


def rebuilt_text(image: Rebuilt) -> str:
    """Return the text of ``flytectl image rebuild``."""
    old, new = (safe(each[:_HASH]) for each in (image.before, image.hash))
    if old == new:
        return f"image {old}: it is up to date"
    lines = [f"image {old} is rebuilt as {new}"]
    lines += [f"deployed: {', '.join(map(safe, image.deployed))}"] if image.deployed else []
    lines += [f"with their next deploy: {', '.join(map(safe, image.left))}"] if image.left else []
    return "\n".join(lines)


def pruned_text(found: Pruned, *, done: bool) -> str:
    """Return the text of ``flytectl image prune``: the images, and how much it is. ``done``: it is removed."""
    if not (found.images or found.layers or found.downloads):
        return "nothing to delete"
    lines = []
    for image in found.images:
        bases = f"  from {safe(_bases(image))}" if image.digests else ""
        lines.append(f"  {image.hash[:_HASH]}  {_size(image):>9}  built {day(image.built_at)}{bases}")
    parts = [counted(len(found.images), "image")] if found.images else []
    parts += [counted(found.layers, "layer")] if found.layers else []
    parts += [f"{human_bytes(found.downloads)} of downloads"] if found.downloads else []
    what, size = ", ".join(parts), human_bytes(found.bytes)
    lines.append(f"deleted: {what}; {size} freed" if done else f"unused: {what}; {size} in all")
    return "\n".join(lines)


def _size(image: ImageEntry) -> str:
    return human_bytes(image.bytes) if image.bytes else "?"


def _bases(image: ImageEntry) -> str:
    """Return the container images that it is made from; digests that are part of a name are cut as hashes are."""
    return ", ".join(_DIGEST.sub(r"\1", name) for name, _digest in image.digests) or "-"


def _users(image: ImageEntry) -> str:
    return ", ".join(image.used_by) or "-"


def tokens_table(tokens: Sequence[TokenStatus]) -> str:
    """Return the text of ``flytectl token ls``: a row per token; the tokens themselves are stored nowhere.

    Every call of ``flyte`` makes a token without a name: those of the same kind, user and app share a row.
    """
    several = len({token.user for token in tokens}) > 1
    header = ["NAME", "KIND", *(["USER"] if several else []), "APP", "USED", "EXPIRES", "ID"]
    rows = []
    for group in _alike(tokens):
        last = max(group, key=lambda token: token.expires_at)
        rows.append(
            [
                last.name or (f"({len(group)} of them)" if len(group) > 1 else "-"),
                last.kind,
                *([last.user] if several else []),
                last.app or "*",
                day(max(token.used_at for token in group)) or "-",
                for_people(last.expires_at),
                last.id if len(group) == 1 else "",
            ]
        )
    return table(header, rows)


def _alike(tokens: Sequence[TokenStatus]) -> list[list[TokenStatus]]:
    groups: dict[tuple[str, ...], list[TokenStatus]] = {}
    for token in tokens:
        own = (token.name, token.id) if token.name else ()
        groups.setdefault((token.kind, token.user, token.app, *own), []).append(token)
    return list(groups.values())


def gpus_table(found: GpuList) -> str:
    """Return the text of ``flytectl gpu ls``: a row per GPU and partition, with its holders; then the waiting apps."""
    header = ["GPU", "NAME", "FREE", "MEMORY", "STATE", "HELD BY", "SINCE"]
    rows = [row for gpu in found.gpus for row in _gpu_rows(gpu)]
    lines = [table(header, rows)] if rows else []
    lines += [f"waiting: {safe(each.unit)}: {safe(each.why)}" for each in found.waiting]
    return "\n".join(lines)


def _gpu_rows(gpu: GpuStatus, indent: str = "") -> list[list[str]]:
    memory = human_bytes(gpu.free_bytes), human_bytes(gpu.memory_bytes)
    first = [indent + gpu.uuid, gpu.name, *memory, gpu.error or gpu.state]
    held = [[_holder(lease), for_people(lease.since)] for lease in gpu.holders] or [["", ""]]
    rows = [[*first, *held[0]], *([""] * len(first) + other for other in held[1:])]
    return [*rows, *(row for part in gpu.partitions for row in _gpu_rows(part, indent + "  "))]


def _holder(lease: LeaseStatus) -> str:
    name = f"{lease.app} ({human_bytes(lease.used_bytes)})"
    return f"{name}, ended" if lease.ended_at else name
