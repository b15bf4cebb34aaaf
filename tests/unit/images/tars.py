"""Archives made by hand: tars, `docker save`'s two shapes, OCI layouts."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MTIME = 1_700_000_000
Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", **fields: Any) -> Member:
    """A file, or what the fields of ``TarInfo`` make of it."""
    info = tarfile.TarInfo(name)
    info.mtime, info.size = MTIME, len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def directory(name: str, mode: int = 0o755, **fields: Any) -> Member:
    return member(name, type=tarfile.DIRTYPE, mode=mode, **fields)


def symlink(name: str, target: str, **fields: Any) -> Member:
    return member(name, type=tarfile.SYMTYPE, linkname=target, **fields)


def hard_link(name: str, target: str) -> Member:
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def device(name: str, major: int, minor: int, kind: bytes = tarfile.CHRTYPE) -> Member:
    return member(name, type=kind, devmajor=major, devminor=minor)


def tar(*members: Member, kind: int = tarfile.PAX_FORMAT) -> bytes:
    """The bytes of a tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Image:
    """An image to be put into an archive. ``layers``: unpacked tars, lowest first."""

    layers: Sequence[bytes]
    tags: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = "amd64"
    os: str = "linux"
    changes: Mapping[str, Any] = field(default_factory=dict)  # fields put in place of ours

    def document(self) -> bytes:
        """The configuration; its digest is the image's id."""
        return json.dumps(
            {
                "architecture": self.architecture,
                "os": self.os,
                "created": "2024-05-01T10:00:00.123456789Z",
                "config": self.config,
                "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in self.layers]},
                "history": [{"created": "2024-05-01T10:00:00Z", "created_by": "a step"}],
                **self.changes,
            }
        ).encode()

    @property
    def id(self) -> str:
        return digest(self.document())


def docker_save(*images: Image, manifest: Any = None) -> bytes:
    """As Docker 1.10 to 24 write it: layers first, manifest.json last."""
    members: dict[str, Member] = {}
    items = []
    for image in images:
        names = [f"{digest(layer)[7:]}/layer.tar" for layer in image.layers]
        for name, layer in zip(names, image.layers, strict=True):
            members[name] = member(name, layer)
        config = f"{image.id[7:]}.json"
        members[config] = member(config, image.document())
        items.append({"Config": config, "RepoTags": list(image.tags) or None, "Layers": names})
    text = json.dumps(items if manifest is None else manifest).encode()
    return tar(*members.values(), member("manifest.json", text))


class Layout:
    """An OCI layout that grows."""

    def __init__(self) -> None:
        self.members: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
        self.manifests: list[dict[str, Any]] = []

    def blob(self, data: bytes, kind: str, **fields: Any) -> dict[str, Any]:
        """Put a blob in; its descriptor."""
        self.members[f"blobs/sha256/{digest(data)[7:]}"] = data
        return {"mediaType": kind, "digest": digest(data), "size": len(data), **fields}

    def manifest(self, image: Image, *, packed: bool = True, **fields: Any) -> dict[str, Any]:
        """Put an image in; the descriptor of its manifest."""
        kind = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if packed else "")
        layers = [gzip.compress(layer) if packed else layer for layer in image.layers]
        document = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.blob(image.document(), "application/vnd.oci.image.config.v1+json"),
            "layers": [self.blob(layer, kind) for layer in layers],
        }
        text = json.dumps(document).encode()
        return self.blob(text, "application/vnd.oci.image.manifest.v1+json", **fields)

    def index(self, manifests: Sequence[Mapping[str, Any]], **fields: Any) -> dict[str, Any]:
        """Put an index in; its descriptor."""
        kind = "application/vnd.oci.image.index.v1+json"
        document = {"schemaVersion": 2, "mediaType": kind, "manifests": list(manifests)}
        return self.blob(json.dumps(document).encode(), kind, **fields)

    def archive(self) -> bytes:
        """The tar, with index.json listing ``manifests``."""
        index = {"schemaVersion": 2, "manifests": self.manifests}
        members = {**self.members, "index.json": json.dumps(index).encode()}
        return tar(*(member(name, data) for name, data in members.items()))


class Dribble:
    """A stream that gives little at a time, as a chunked request body may."""

    def __init__(self, data: bytes, piece: int = 777) -> None:
        self._file = io.BytesIO(data)
        self._piece = piece

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._piece))
