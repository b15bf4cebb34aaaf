"""The image store: layers unpacked once each, configurations, names; all under one root.

::

    index.json       what there is (see imageindex): replaced whole, the only point of commit
    configs/<hex>    configuration documents as they came, by their digest
    trees/<number>   unpacked layers, ready for overlayfs
    tmp/             what is under way

Nothing is visible before the index names it. So a kill at any line leaves only things
that no index names, and the next start removes them. Layers that no image has any
more go with the image, those of an interrupted load at once or at the next start.

The API calls from several threads. Unpacking may take minutes and is done without the
lock; what it builds upon is *held* meanwhile, so that no ``rmi`` collects it. One root
belongs to one process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnm.errors import Conflict, InvalidParameter, KernelError, NotFound
from cnm.imageapi import (
    HOST_IMAGE,
    ByteSource,
    ImageConfig,
    ImageID,
    ImageRemoval,
    ImageSummary,
    LoadedImage,
    Users,
    no_such_image,
)
from cnm.runtime.container import imagename
from cnm.runtime.container.archive import Limits, TarReader
from cnm.runtime.container.imagearchive import ImageParts, read_archive
from cnm.runtime.container.imagechanges import apply_changes
from cnm.runtime.container.imageconfig import (
    ImageDocument,
    host_document,
    import_document,
    read_document,
)
from cnm.runtime.container.imagedocument import history_document, inspect_document
from cnm.runtime.container.imagefs import (
    remove_tree,
    replace_file,
    sync_directory,
    sync_file_system,
)
from cnm.runtime.container.imageindex import (
    Index,
    StoredImage,
    StoredLayer,
    read_index,
    write_index,
)
from cnm.runtime.container.imageremoval import plan_by_id, plan_by_name
from cnm.runtime.container.imagespool import spool
from cnm.runtime.container.imagestream import Measured, decompressed
from cnm.runtime.container.layers import is_opaque, unpack
from cnm.types import Repair
from cnm.undo import Undo

_log = logging.getLogger(__name__)

_SHOWN_DIGEST = 19  # sha256: and 12 digits


@dataclass(frozen=True, slots=True)
class _Unpacked:
    """A layer that lies in the workspace."""

    tree: Path
    diff_id: str
    size: int


class ImageStore:
    """Implements ``cnm.imageapi.Images`` and ``ImageDocuments``.

    :param root: a directory of its own, made if missing.
    :param limits: what an archive may ask of this machine.
    :param now_ns: the clock, nanoseconds since the epoch.
    :raises StoreError: the index is damaged or from a newer version; nothing was changed.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        limits: Limits | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._root = Path(root)
        self._limits = limits or Limits()
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()  # diff ids that loads under way build upon
        self._host = host_document()
        self._index = read_index(self._root / "index.json")
        for directory in (self._root, self._configs, self._trees, self._tmp):
            # images have set-user-id programs: other users of the machine must not reach them
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._documents: dict[ImageID, ImageDocument] = {}
        self.repairs: tuple[Repair, ...] = tuple(self._sweep())

    def summaries(self) -> Sequence[ImageSummary]:
        index = self._index
        found = [self._summary(index, image_id) for image_id in index.images]
        return sorted(found, key=lambda item: (-item.created_ns, item.id))

    def find(self, name: str) -> ImageID:
        return self._find(self._index, name)[0]

    def config(self, image_id: ImageID) -> ImageConfig:
        return self._document(image_id).config

    def lower_directories(self, image_id: ImageID) -> list[str]:
        if image_id == self._host.id:
            return ["/"]
        index = self._index
        image = index.images.get(image_id)
        if image is None:
            raise NotFound(no_such_image(image_id))
        found: list[str] = []
        # overlayfs refuses a directory that is given twice; the upper one says it all
        for diff_id in dict.fromkeys(reversed(image.layers)):
            tree = self._trees / index.layers[diff_id].directory
            found.append(str(tree.absolute()))
            # overlayfs does not look for the mark on a layer's root
            if is_opaque(tree):
                break
        return found

    def import_tar(
        self, source: ByteSource, name: str = "", *, changes: Sequence[str] = (), message: str = ""
    ) -> ImageID:
        references = []
        if name:
            references = [str(imagename.parse_target(name, "cannot import digest reference"))]
        config = apply_changes(changes)
        with self._workspace() as work:
            layer = self._unpack(source, work / "tree", "the archive")
            data = import_document(config, layer.diff_id, self._now_ns(), message)
            document = read_document(data)
            self._commit([(document, data)], [layer], dict.fromkeys(references, document.id))
        return document.id

    def load(self, source: ByteSource) -> Sequence[LoadedImage]:
        with self._workspace() as work:
            (work / "spool").mkdir()
            images = read_archive(spool(source, work / "spool", self._limits))
            with self._holding(images):
                names = {
                    str(name): image.document.id for image in images for name in image.references
                }
                documents = [(image.document, image.config) for image in images]
                self._commit(documents, self._unpack_missing(images, work), names)
        return [
            LoadedImage(image.document.id, tuple(str(name) for name in image.references))
            for image in images
        ]

    def tag(self, name: str, target: str) -> None:
        text = "refusing to create a tag with a digest reference"
        reference = str(imagename.parse_target(target, text))
        with self._lock:
            image_id = self._find(self._index, name)[0]
            if image_id == self._host.id:
                raise InvalidParameter(f"the image {HOST_IMAGE} cannot have further names")
            self._write(self._named(self._index, {reference: image_id}))

    def remove(self, name: str, users: Users, *, force: bool = False) -> ImageRemoval:
        # the callback takes locks of its own, so it is asked before ours is taken
        using = users(self.find(name))
        with self._lock:
            index = self._index
            image_id, reference = self._find(index, name)
            if image_id == self._host.id:
                raise Conflict(
                    f"conflict: unable to delete {HOST_IMAGE} (cannot be forced) - "
                    "it is the machine's own root file system"
                )
            names = index.references_of(image_id)
            if reference:
                plan = plan_by_name(image_id, names, reference, name, using, force)
            else:
                plan = plan_by_id(image_id, names, using, force)
            self._take_away(image_id, plan.untag, plan.delete)
        self._collect()
        return ImageRemoval(plan.untag, (image_id,) if plan.delete else ())

    def inspect(self, name: str) -> dict[str, Any]:
        index = self._index
        image_id = self._find(index, name)[0]
        image = index.images.get(image_id, StoredImage(()))
        return inspect_document(
            self._document(image_id),
            self._shown_names(index, image_id),
            self._size(index, image),
            image.tagged_ns,
            self.lower_directories(image_id),
        )

    def history(self, name: str) -> list[dict[str, Any]]:
        index = self._index
        image_id = self._find(index, name)[0]
        image = index.images.get(image_id, StoredImage(()))
        sizes = [index.layers[diff_id].size for diff_id in image.layers]
        return history_document(self._document(image_id), self._shown_names(index, image_id), sizes)

    @property
    def _configs(self) -> Path:
        return self._root / "configs"

    @property
    def _trees(self) -> Path:
        return self._root / "trees"

    @property
    def _tmp(self) -> Path:
        return self._root / "tmp"

    def _config_path(self, image_id: str) -> Path:
        return self._configs / image_id.removeprefix("sha256:")

    def _find(self, index: Index, name: str) -> tuple[ImageID, str]:
        """The image, and the reference if the name was one ("" if it was an id)."""
        if whole := imagename.whole_id(name):
            if whole in index.images or whole == self._host.id:
                return ImageID(whole), ""
            raise NotFound(no_such_image(name))
        reference = imagename.parse(name).with_tag()
        if reference.reserved and reference.tag == "latest":
            return self._host.id, ""
        if (tagged := self._referenced(index, reference)) is not None:
            return tagged, str(reference)
        if prefix := imagename.id_prefix(name):
            found = [image_id for image_id in index.images if image_id.startswith(prefix)]
            if len(found) > 1:
                raise InvalidParameter(
                    f"image {name} is ambiguous ({len(found)} matches found based on ID prefix)"
                )
            if found:
                return found[0], ""
        raise NotFound(no_such_image(str(reference)))

    @staticmethod
    def _referenced(index: Index, reference: imagename.Reference) -> ImageID | None:
        """By name and tag; or by name and digest, which is the image's id here."""
        if not reference.digest:
            return index.references.get(str(reference))
        image_id = ImageID(reference.digest)
        names = index.references_of(image_id)
        same = any(imagename.parse(name).repository == reference.repository for name in names)
        return image_id if same else None

    def _document(self, image_id: ImageID) -> ImageDocument:
        document = self._host if image_id == self._host.id else self._documents.get(image_id)
        if document is None:
            raise NotFound(no_such_image(image_id))
        return document

    def _shown_names(self, index: Index, image_id: ImageID) -> list[str]:
        if image_id == self._host.id:
            return [f"{HOST_IMAGE}:latest"]
        return index.references_of(image_id)

    def _summary(self, index: Index, image_id: ImageID) -> ImageSummary:
        document = self._document(image_id)
        return ImageSummary(
            image_id,
            tuple(index.references_of(image_id)),
            document.created_ns,
            self._size(index, index.images[image_id]),
            document.config.labels,
        )

    @staticmethod
    def _size(index: Index, image: StoredImage) -> int:
        return sum(index.layers[diff_id].size for diff_id in image.layers)

    @contextlib.contextmanager
    def _workspace(self) -> Iterator[Path]:
        """A directory that is gone afterwards, with what was not moved out of it."""
        work = Path(tempfile.mkdtemp(dir=self._tmp))
        try:
            yield work
        except OSError as error:
            raise KernelError(error.errno or 0, f"write below {self._root}") from error
        finally:
            remove_tree(work)

    @contextlib.contextmanager
    def _holding(self, images: Iterable[ImageParts]) -> Iterator[None]:
        diff_ids = [diff_id for image in images for diff_id in image.document.diff_ids]
        with self._lock:
            self._held.update(diff_ids)
        try:
            yield
        finally:
            with self._lock:
                self._held.subtract(diff_ids)
                self._held += Counter()  # drops what is at zero
            self._collect()

    def _unpack(self, source: ByteSource, tree: Path, what: str) -> _Unpacked:
        measured = Measured(decompressed(source, what), what, self._limits.archive_bytes)
        tree.mkdir()
        size = unpack(TarReader(measured, what, self._limits), tree, what)
        return _Unpacked(tree, measured.digest, size)

    def _unpack_missing(self, images: Iterable[ImageParts], work: Path) -> list[_Unpacked]:
        """The layers that the store does not have; each must be what the image says."""
        index = self._index
        found: dict[str, _Unpacked] = {}
        for image in images:
            for diff_id, member in zip(image.document.diff_ids, image.layers, strict=True):
                if diff_id in index.layers or diff_id in found:
                    continue
                what = f"layer {diff_id[:_SHOWN_DIGEST]}"
                with member.open() as file:
                    layer = self._unpack(file, work / f"tree{len(found)}", what)
                if layer.diff_id != diff_id:
                    raise InvalidParameter(
                        f"{what} is damaged: its digest is {layer.diff_id}, "
                        f"the image's configuration says {diff_id}"
                    )
                found[diff_id] = layer
        return list(found.values())

    def _commit(
        self,
        documents: Sequence[tuple[ImageDocument, bytes]],
        layers: Sequence[_Unpacked],
        references: Mapping[str, ImageID],
    ) -> None:
        """Make images, their layers and their names part of the store, all at once."""
        sync_file_system(self._root)
        with self._lock, Undo() as undo:
            stored = dict(self._index.layers)
            for layer in layers:
                if layer.diff_id not in stored:  # else another load was faster
                    stored[layer.diff_id] = self._move_in(layer, undo)
            images = dict(self._index.images)
            for document, data in documents:
                if document.id not in images:
                    path = self._config_path(document.id)
                    replace_file(path, data, self._tmp / path.name)
                    undo.push(path.unlink)
                    images[document.id] = StoredImage(document.diff_ids)
            sync_directory(self._trees)
            sync_directory(self._configs)
            index = replace(self._index, images=images, layers=stored)
            self._documents |= {document.id: document for document, _ in documents}
            self._write(self._named(index, references))
        sync_directory(self._root)

    def _move_in(self, layer: _Unpacked, undo: Undo) -> StoredLayer:
        taken = [int(name) for name in os.listdir(self._trees) if name.isdecimal()]
        directory = str(max(taken, default=0) + 1)
        os.rename(layer.tree, self._trees / directory)
        undo.push(remove_tree, self._trees / directory)
        return StoredLayer(directory, layer.size)

    def _named(self, index: Index, references: Mapping[str, ImageID]) -> Index:
        images = dict(index.images)
        for image_id in references.values():
            images[image_id] = replace(images[image_id], tagged_ns=self._now_ns())
        return replace(index, images=images, references={**index.references, **references})

    def _write(self, index: Index) -> None:
        write_index(index, self._root / "index.json", self._tmp / "index.json")
        self._index = index

    def _take_away(self, image_id: ImageID, names: Sequence[str], delete: bool) -> None:
        index = self._index
        references = {key: value for key, value in index.references.items() if key not in names}
        images = dict(index.images)
        if delete:
            del images[image_id]
        self._write(replace(index, images=images, references=references))
        if delete:
            self._documents.pop(image_id)
            self._config_path(image_id).unlink(missing_ok=True)

    def _collect(self) -> None:
        """Remove the layers that no image has and no load builds upon."""
        with self._lock:
            index = self._index
            kept = index.used_layers() | set(self._held)
            unused = {key: layer for key, layer in index.layers.items() if key not in kept}
            if unused:
                layers = {key: layer for key, layer in index.layers.items() if key in kept}
                self._write(replace(index, layers=layers))
        for layer in unused.values():
            remove_tree(self._trees / layer.directory)

    def _sweep(self) -> Iterator[Repair]:
        """Remove what an interruption left, and images of which something is missing."""
        for path in self._tmp.iterdir():
            remove_tree(path)
            yield Repair("image", f"tmp/{path.name}", "removed: left by an interrupted import")
        yield from self._drop_broken()
        self._collect()
        trees = {layer.directory for layer in self._index.layers.values()}
        configs = {self._config_path(image_id).name for image_id in self._index.images}
        for directory, names in ((self._trees, trees), (self._configs, configs)):
            for path in directory.iterdir():
                if path.name not in names:
                    remove_tree(path)
                    name = f"{directory.name}/{path.name}"
                    yield Repair("image", name, "removed: no image has it")

    def _drop_broken(self) -> Iterator[Repair]:
        index = self._index
        layers = {
            key: layer
            for key, layer in index.layers.items()
            if (self._trees / layer.directory).is_dir()
        }
        images = {}
        for image_id, image in index.images.items():
            missing = [diff_id for diff_id in image.layers if diff_id not in layers]
            reason = f"layer {missing[0]} is missing" if missing else self._read_config(image_id)
            if not reason:
                images[image_id] = image
                continue
            names = ", ".join(index.references_of(image_id)) or "without a name"
            _log.warning("image %s (%s) is removed: %s", image_id, names, reason)
            yield Repair("image", image_id, f"removed ({names}): {reason}; import it again")
        references = {key: value for key, value in index.references.items() if value in images}
        sound = replace(index, images=images, references=references, layers=layers)
        if sound != index:
            self._write(sound)

    def _read_config(self, image_id: ImageID) -> str:
        """Take a configuration into memory; else what is wrong with it."""
        try:
            document = read_document(self._config_path(image_id).read_bytes())
        except (OSError, InvalidParameter) as error:
            return f"its configuration cannot be read ({error})"
        if document.id != image_id:
            return "its configuration is damaged"
        self._documents[image_id] = document
        return ""
