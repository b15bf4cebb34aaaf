"""An archive of images, put down as numbered files while it streams in.

Its parts refer to one another by name, and the document that says in which order the
layers go (manifest.json, index.json) may come last: so the members must lie on disk
before they can be used. No name of the archive ever becomes a name of the file system.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cnm.errors import InvalidParameter
from cnm.imageapi import ByteSource
from cnm.runtime.container.archive import Entry, Kind, Limits, TarReader, shown
from cnm.runtime.container.imageconfig import LARGEST_DOCUMENT
from cnm.runtime.container.imagestream import Measured, decompressed
from cnm.runtime.container.layers import components

_WHAT = "the archive"
_LONGEST_CHAIN = 8  # of links; `docker save` of old has chains of one
_BLOBS = "blobs/sha256/"


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive."""

    name: str
    path: Path  # where it lies now
    size: int
    digest: str  # sha256:<hex>

    def open(self) -> BinaryIO:
        """Its content as a stream."""
        return self.path.open("rb", buffering=0)

    def read(self) -> bytes:
        """The whole of a document. :raises InvalidParameter: too large to be one."""
        if self.size > LARGEST_DOCUMENT:
            raise InvalidParameter(
                f"{_WHAT}: {shown(self.name)} has more than {LARGEST_DOCUMENT} bytes"
            )
        return self.path.read_bytes()


class Spool:
    """The members of one archive by name; the files are the caller's to remove."""

    def __init__(self, members: Mapping[str, Member], links: Mapping[str, str]) -> None:
        self._members = members
        self._links = links

    def find(self, name: str) -> Member | None:
        """The member with this name, through links; ``None``: there is none."""
        for _ in range(_LONGEST_CHAIN):
            name = _normal(name, name)
            if name not in self._links:
                return self._members.get(name)
            name = self._links[name]
        return None

    def get(self, name: str) -> Member:
        """:raises InvalidParameter: there is none."""
        member = self.find(name)
        if member is None:
            raise InvalidParameter(f"{_WHAT} has no {shown(name)}, which it refers to")
        return member

    def blob(self, digest: str) -> Member | None:
        """The member of an OCI layout that has this digest."""
        return self.find(_BLOBS + digest.removeprefix("sha256:"))


def spool(source: ByteSource, directory: Path, limits: Limits) -> Spool:
    """Put an archive down in an empty directory.

    :raises InvalidParameter: it is no tar, has members that no archive of images has, or
        a blob that is not what its name says.
    """
    measured = Measured(decompressed(source, _WHAT), _WHAT, limits.archive_bytes)
    reader = TarReader(measured, _WHAT, limits)
    members: dict[str, Member] = {}
    links: dict[str, str] = {}
    for entry in reader:
        name = _normal(entry.path, entry.path)
        if entry.kind is Kind.DIRECTORY:
            continue
        if name in members or name in links:
            raise _refused(entry, "it is there twice")
        if entry.kind is Kind.FILE:
            members[name] = _put(reader, name, directory / str(len(members)))
        else:
            links[name] = _target(entry, name)
    return Spool(members, links)


def _put(reader: TarReader, name: str, path: Path) -> Member:
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        for offset, data in reader.pieces():
            if offset != size:
                raise InvalidParameter(f"{_WHAT}: entry {shown(name)} is a sparse file")
            size += file.write(data)
            digest.update(data)
    member = Member(name, path, size, f"sha256:{digest.hexdigest()}")
    if name.startswith(_BLOBS) and f"sha256:{name.removeprefix(_BLOBS)}" != member.digest:
        raise InvalidParameter(f"{_WHAT}: {shown(name)} is damaged: its digest is {member.digest}")
    return member


def _target(entry: Entry, name: str) -> str:
    if entry.kind is Kind.HARD_LINK:
        return _normal(entry.link, entry.path)
    if entry.kind is Kind.SYMLINK:
        return _normal(posixpath.join(posixpath.dirname(name), entry.link), entry.path)
    raise _refused(entry, f"it is a {entry.kind.value}")


def _normal(name: str, where: str) -> str:
    try:
        return "/".join(components(name))
    except ValueError as error:
        raise InvalidParameter(f"{_WHAT}: entry {shown(where)} is refused: {error}") from error


def _refused(entry: Entry, reason: str) -> InvalidParameter:
    return InvalidParameter(f"{_WHAT}: entry {shown(entry.path)} is refused: {reason}")
