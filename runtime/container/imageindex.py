"""What the image store holds, as one value and one file: the only point of commit.

Whatever is on disk and not in here is left over from something that was interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cnm import codec
from cnm.errors import StoreError
from cnm.imageapi import ImageID
from cnm.runtime.container.imagefs import replace_file

_VERSION = 1


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """An unpacked layer. ``directory``: its name under ``trees``; ``size``: bytes of content.

    The name is a small number, not the digest: 125 layers must fit into the one page
    that mount(2) takes as options.
    """

    directory: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image: its layers, lowest first, and when it was last given a name."""

    layers: tuple[str, ...]  # diff ids
    tagged_ns: int = 0


@dataclass(frozen=True, slots=True)
class Index:
    """Images by id, layers by diff id, references (as shown, with their tag) to ids."""

    version: int = 0
    images: Mapping[ImageID, StoredImage] = field(default_factory=dict)
    references: Mapping[str, ImageID] = field(default_factory=dict)
    layers: Mapping[str, StoredLayer] = field(default_factory=dict)

    def references_of(self, image_id: ImageID) -> list[str]:
        """Its names, sorted."""
        return sorted(name for name, target in self.references.items() if target == image_id)

    def used_layers(self) -> set[str]:
        """The diff ids that images have."""
        return {diff_id for image in self.images.values() for diff_id in image.layers}


def read_index(path: Path) -> Index:
    """The index; an empty one if there is no file yet.

    :raises StoreError: it is damaged, or a newer version wrote it; it is left as it is.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Index(version=_VERSION)
    except ValueError as error:
        raise _damaged(path) from error
    try:
        version = json.loads(text).get("version")
    except (ValueError, AttributeError) as error:
        raise _damaged(path) from error
    if isinstance(version, int) and version > _VERSION:
        raise StoreError(f"{path} was written by a newer version of cnm: upgrade this one")
    try:
        return codec.loads(Index, text)
    except (StoreError, AttributeError) as error:
        raise _damaged(path) from error


def write_index(index: Index, path: Path, draft: Path) -> None:
    """Replace the index; the caller makes the rename durable."""
    replace_file(path, codec.dumps(index).encode(), draft)


def _damaged(path: Path) -> StoreError:
    return StoreError(
        f"{path} is damaged: move the directory {path.parent} away and import the images again"
    )
