"""What an archive of images holds: ``docker save``'s manifest.json, or an OCI layout.

An archive with both (``docker save`` since version 25) is read by manifest.json, which
has the names. Archives of Docker before 1.10 have neither and are refused.

Sources: Docker's image specification 1.2, "Combined Image JSON + Filesystem Changeset
Format"; OCI image specification, "Image Layout", "Image Index", "Image Manifest".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from cnm.errors import InvalidParameter
from cnm.runtime.container.archive import shown
from cnm.runtime.container.imageconfig import (
    ImageDocument,
    is_digest,
    machine_architecture,
    read_document,
    read_json,
    read_json_value,
)
from cnm.runtime.container.imagename import Reference, parse, parse_target
from cnm.runtime.container.imagespool import Member, Spool

_CONFIG_TYPES = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_ATTESTATION = "vnd.docker.reference.type"
_DEEPEST_INDEX = 4
_CONFIG_NAME = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?")
# what an architecture can run besides its own, best first
_COMPATIBLE = {"amd64": ("amd64", "386"), "arm64": ("arm64", "arm")}


@dataclass(frozen=True, slots=True)
class ImageParts:
    """One image of an archive: its configuration, its layers (lowest first), its names."""

    document: ImageDocument
    config: bytes
    layers: tuple[Member, ...]
    references: tuple[Reference, ...]


def read_archive(spool: Spool) -> list[ImageParts]:
    """All images of the archive; of one for several platforms, this machine's.

    :raises InvalidParameter: it is no archive of images, or one that contradicts itself.
    :raises Forbidden: an image has a reserved name.
    """
    if (manifest := spool.find("manifest.json")) is not None:
        return _read_docker(spool, manifest)
    if (index := spool.find("index.json")) is not None:
        return _read_oci(spool, index)
    raise InvalidParameter(
        "the archive has neither manifest.json nor index.json, so it holds no images: for the tar "
        "of a root file system use `cnm import`"
    )


def _read_docker(spool: Spool, manifest: Member) -> list[ImageParts]:
    items = read_json_value(manifest.read(), "manifest.json")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InvalidParameter("manifest.json is no list of objects")
    return [_docker_image(spool, item) for item in items]


def _docker_image(spool: Spool, item: Mapping[str, Any]) -> ImageParts:
    name, layers, tags = item.get("Config"), item.get("Layers"), item.get("RepoTags") or []
    if not (isinstance(name, str) and _is_texts(layers) and _is_texts(tags)):
        raise InvalidParameter("manifest.json: an image needs Config, Layers and RepoTags")
    config = spool.get(name)
    match = _CONFIG_NAME.fullmatch(name)
    if match and f"sha256:{match[1]}" != config.digest:
        raise InvalidParameter(f"{shown(name)} is damaged: its digest is {config.digest}")
    return _parts(config, [spool.get(layer) for layer in layers], [_tagged(tag) for tag in tags])


def _tagged(text: str) -> Reference:
    return parse_target(text, f"invalid tag {shown(text)}: it has a digest")


def _parts(config: Member, layers: Sequence[Member], references: Sequence[Reference]) -> ImageParts:
    data = config.read()
    document = read_document(data)
    if document.os not in ("", "linux"):
        raise InvalidParameter(f"cannot load {shown(document.os)[1:-1]} image on linux")
    if len(layers) != len(document.diff_ids):
        raise InvalidParameter(
            "invalid manifest, layers length mismatch: "
            f"expected {len(document.diff_ids)}, got {len(layers)}"
        )
    return ImageParts(document, data, tuple(layers), tuple(references))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A manifest that an index offers, with the name and platform that it gives it."""

    name: str
    manifest: Mapping[str, Any]
    architecture: str
    os: str

    @property
    def platform(self) -> str:
        return f"{self.os}/{self.architecture}"


def _read_oci(spool: Spool, index: Member) -> list[ImageParts]:
    """Manifests of one name are one image's platforms; those without one stand alone."""
    document = read_json(index.read(), "index.json")
    candidates = list(_candidates(spool, document, "", "index.json", 0))
    if not candidates:
        raise InvalidParameter("index.json lists no image whose parts are in the archive")
    groups: dict[str, list[_Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.name, []).append(candidate)
    return [
        _oci_image(spool, name, chosen.manifest)
        for name, group in groups.items()
        for chosen in _for_this_machine(group)
    ]


def _candidates(
    spool: Spool, index: Mapping[str, Any], name: str, what: str, depth: int
) -> Iterator[_Candidate]:
    if depth > _DEEPEST_INDEX:
        raise InvalidParameter(f"{what}: indexes are nested deeper than {_DEEPEST_INDEX}")
    for descriptor in _objects(index, "manifests", what):
        digest = _digest(descriptor, what)
        annotations = _object(descriptor, "annotations", what)
        member = spool.blob(digest)
        # a `save` of one platform lists the others, without their parts
        if member is None or _ATTESTATION in annotations:
            continue
        _check_size(descriptor, member, what)
        document = read_json(member.read(), f"manifest {digest}")
        known = name or next(
            (str(annotations[key]) for key in _NAME_ANNOTATIONS if key in annotations), ""
        )
        # CVE-2021-41190: one text, read as two different things
        if "manifests" in document and ("config" in document or "layers" in document):
            raise InvalidParameter(f"manifest {digest} is an index and an image at once")
        if "manifests" in document:
            yield from _candidates(spool, document, known, f"index {digest}", depth + 1)
        else:
            yield _candidate(spool, descriptor, document, known, what)


def _candidate(
    spool: Spool,
    descriptor: Mapping[str, Any],
    manifest: Mapping[str, Any],
    name: str,
    what: str,
) -> _Candidate:
    platform = _object(descriptor, "platform", what)
    if not platform:
        config = _blob(spool, _object(manifest, "config", what), what)
        platform = read_json(config.read(), f"image configuration {config.digest}")
    return _Candidate(
        name, manifest, str(platform.get("architecture", "")), str(platform.get("os", ""))
    )


def _for_this_machine(group: Sequence[_Candidate]) -> list[_Candidate]:
    machine = machine_architecture()
    for architecture in _COMPATIBLE.get(machine, (machine,)):
        found = [item for item in group if item.platform == f"linux/{architecture}"]
        if found:
            # under a name there is one image; without, each is an image of its own
            return found[:1] if found[0].name else found
    offered = ", ".join(sorted({item.platform for item in group}))
    raise InvalidParameter(
        f"the archive has no image for linux/{machine}, only for {shown(offered)[1:-1]}"
    )


def _oci_image(spool: Spool, name: str, manifest: Mapping[str, Any]) -> ImageParts:
    what = "image manifest"
    descriptor = _object(manifest, "config", what)
    kind = descriptor.get("mediaType")
    if kind not in _CONFIG_TYPES:
        raise InvalidParameter(f"{what}: {shown(str(kind))} is no container image")
    layers = _objects(manifest, "layers", what)
    for layer in layers:
        if "encrypted" in str(layer.get("mediaType")):
            raise InvalidParameter(f"{what}: layer {_digest(layer, what)} is encrypted")
    return _parts(
        _blob(spool, descriptor, what),
        [_blob(spool, layer, what) for layer in layers],
        _named(name),
    )


def _named(name: str) -> list[Reference]:
    """A lone word may be a tag without a name (``latest``): the image stays without one."""
    if ":" not in name and "/" not in name:
        return []
    reference = parse(name)
    return [] if reference.digest else [_tagged(name)]


def _blob(spool: Spool, descriptor: Mapping[str, Any], what: str) -> Member:
    digest = _digest(descriptor, what)
    member = spool.blob(digest)
    if member is None:
        raise InvalidParameter(f"the archive has no blob {digest}, which its {what} refers to")
    _check_size(descriptor, member, what)
    return member


def _check_size(descriptor: Mapping[str, Any], member: Member, what: str) -> None:
    if descriptor.get("size") != member.size:
        raise InvalidParameter(
            f"{what}: blob {member.digest} has {member.size} bytes, "
            f"not {shown(str(descriptor.get('size')))[1:-1]}"
        )


def _digest(descriptor: Mapping[str, Any], what: str) -> str:
    digest = descriptor.get("digest")
    if not isinstance(digest, str) or not is_digest(digest):
        raise InvalidParameter(f"{what}: {shown(str(digest))} is no sha256 digest")
    return digest


def _object(values: Mapping[str, Any], key: str, what: str) -> Mapping[str, Any]:
    value = values.get(key)
    if value is not None and not isinstance(value, dict):
        raise InvalidParameter(f"{what}: {key} is no object")
    return value or {}


def _objects(values: Mapping[str, Any], key: str, what: str) -> Sequence[Mapping[str, Any]]:
    value = values.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidParameter(f"{what}: {key} is no list of objects")
    return value


def _is_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
