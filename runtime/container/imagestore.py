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

from cnm.errors import Conflict, InvalidParameter, KernelError
from cnm.imageapi import (
    HOST_IMAGE,
    ByteSource,
    ImageConfig,
    ImageID,
    ImageRemoval,
    ImageSummary,
    LoadedImage,
    Users,
)
from cnm.runtime.container import imagename
from cnm.runtime.container.archive import Limits, TarReader
from cnm.runtime.container.imagearchive import ImageParts, read_archive
from cnm.runtime.container.imagecatalog import Catalog
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
from cnm.runtime.container.imageremoval import RemovalPlan, plan_by_id, plan_by_name
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
        self._catalog = Catalog(read_index(self._root / "index.json"), host_document())
        for directory in (self._root, self._configs, self._trees, self._tmp):
            # images have set-user-id programs: other users of the machine must not reach them
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.repairs: tuple[Repair, ...] = tuple(self._sweep())

    def summaries(self) -> Sequence[ImageSummary]:
        return self._catalog.summaries()

    def find(self, name: str) -> ImageID:
        return self._catalog.find(name)[0]

    def config(self, image_id: ImageID) -> ImageConfig:
        return self._catalog.document(image_id).config

    def lower_directories(self, image_id: ImageID) -> list[str]:
        catalog = self._catalog
        if image_id == catalog.host.id:
            return ["/"]
        found: list[str] = []
        # overlayfs refuses a directory that is given twice; the upper one says it all
        for diff_id in dict.fromkeys(reversed(catalog.stored(image_id).layers)):
            tree = self._trees / catalog.index.layers[diff_id].directory
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
            catalog = self._catalog
            image_id = catalog.find(name)[0]
            if image_id == catalog.host.id:
                raise InvalidParameter(f"the image {HOST_IMAGE} cannot have further names")
            index = self._named(catalog.index, {reference: image_id})
            self._write(replace(catalog, index=index))

    def remove(self, name: str, users: Users, *, force: bool = False) -> ImageRemoval:
        # the callback takes locks of its own, so it is asked before ours is taken
        asked = self.find(name)
        using = users(asked)
        with self._lock:
            catalog = self._catalog
            image_id, reference = catalog.find(name)
            if image_id == catalog.host.id:
                raise Conflict(
                    f"conflict: unable to delete {HOST_IMAGE} (cannot be forced) - "
                    "it is the machine's own root file system"
                )
            if image_id != asked:
                raise Conflict(f"the name {name} was given to another image meanwhile: try again")
            names = catalog.names(image_id)
            if reference:
                plan = plan_by_name(image_id, names, reference, name, using, force)
            else:
                plan = plan_by_id(image_id, names, using, force)
            self._take_away(image_id, plan)
        self._collect()
        return ImageRemoval(plan.untag, (image_id,) if plan.delete else ())

    def inspect(self, name: str) -> dict[str, Any]:
        catalog = self._catalog
        image_id = catalog.find(name)[0]
        return inspect_document(
            catalog.document(image_id),
            catalog.names(image_id),
            sum(catalog.sizes(image_id)),
            catalog.stored(image_id).tagged_ns,
            self.lower_directories(image_id),
        )

    def history(self, name: str) -> list[dict[str, Any]]:
        catalog = self._catalog
        image_id = catalog.find(name)[0]
        return history_document(
            catalog.document(image_id), catalog.names(image_id), catalog.sizes(image_id)
        )

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
        known = self._catalog.index.layers
        found: dict[str, _Unpacked] = {}
        for image in images:
            for diff_id, member in zip(image.document.diff_ids, image.layers, strict=True):
                if diff_id in known or diff_id in found:
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
            catalog = self._catalog
            stored = dict(catalog.index.layers)
            for layer in layers:
                if layer.diff_id not in stored:  # else another load was faster
                    stored[layer.diff_id] = self._move_in(layer, undo)
            images = dict(catalog.index.images)
            for document, data in documents:
                if document.id not in images:
                    path = self._config_path(document.id)
                    replace_file(path, data, self._tmp / path.name)
                    undo.push(path.unlink)
                    images[document.id] = StoredImage(document.diff_ids)
            sync_directory(self._trees)
            sync_directory(self._configs)
            index = replace(catalog.index, images=images, layers=stored)
            known = {document.id: document for document, _ in documents}
            self._write(
                Catalog(
                    self._named(index, references), catalog.host, {**catalog.documents, **known}
                )
            )
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

    def _write(self, catalog: Catalog) -> None:
        write_index(catalog.index, self._root / "index.json", self._tmp / "index.json")
        self._catalog = catalog

    def _take_away(self, image_id: ImageID, plan: RemovalPlan) -> None:
        catalog = self._catalog
        references = dict(catalog.index.references)
        for name in plan.untag:
            del references[name]
        images, documents = dict(catalog.index.images), dict(catalog.documents)
        if plan.delete:
            del images[image_id], documents[image_id]
        index = replace(catalog.index, images=images, references=references)
        self._write(Catalog(index, catalog.host, documents))
        if plan.delete:
            self._config_path(image_id).unlink(missing_ok=True)

    def _collect(self) -> None:
        """Remove the layers that no image has and no load builds upon."""
        with self._lock:
            index = self._catalog.index
            kept = index.used_layers() | set(self._held)
            unused = {key: layer for key, layer in index.layers.items() if key not in kept}
            if unused:
                layers = {key: layer for key, layer in index.layers.items() if key in kept}
                self._write(replace(self._catalog, index=replace(index, layers=layers)))
        for layer in unused.values():
            remove_tree(self._trees / layer.directory)

    def _sweep(self) -> Iterator[Repair]:
        """Remove what an interruption left, and images of which something is missing."""
        for path in self._tmp.iterdir():
            remove_tree(path)
            yield Repair("image", f"tmp/{path.name}", "removed: left by what was interrupted")
        yield from self._drop_broken()
        self._collect()
        index = self._catalog.index
        trees = {layer.directory for layer in index.layers.values()}
        configs = {self._config_path(image_id).name for image_id in index.images}
        for directory, names in ((self._trees, trees), (self._configs, configs)):
            for path in directory.iterdir():
                if path.name not in names:
                    remove_tree(path)
                    name = f"{directory.name}/{path.name}"
                    yield Repair("image", name, "removed: no image has it")

    def _drop_broken(self) -> Iterator[Repair]:
        index = self._catalog.index
        layers = {
            key: layer
            for key, layer in index.layers.items()
            if (self._trees / layer.directory).is_dir()
        }
        documents: dict[ImageID, ImageDocument] = {}
        for image_id, image in index.images.items():
            missing = [diff_id for diff_id in image.layers if diff_id not in layers]
            try:
                if missing:
                    raise InvalidParameter(f"layer {missing[0]} is missing")
                documents[image_id] = self._read_config(image_id)
            except (OSError, InvalidParameter) as error:
                names = ", ".join(index.references_of(image_id)) or "without a name"
                _log.warning("image %s (%s) is removed: %s", image_id, names, error)
                yield Repair("image", image_id, f"removed ({names}): {error}; import it again")
        images = {key: image for key, image in index.images.items() if key in documents}
        references = {key: value for key, value in index.references.items() if value in images}
        sound = replace(index, images=images, references=references, layers=layers)
        catalog = Catalog(sound, self._catalog.host, documents)
        if sound == index:
            self._catalog = catalog
        else:
            self._write(catalog)

    def _read_config(self, image_id: ImageID) -> ImageDocument:
        document = read_document(self._config_path(image_id).read_bytes())
        if document.id != image_id:
            raise InvalidParameter("its configuration is damaged")
        return document
