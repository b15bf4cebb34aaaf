"""What the store holds at one moment, and the questions that need nothing else. No I/O.

The store replaces the whole value with each change, so a reader sees one moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cnm.errors import InvalidParameter, NotFound
from cnm.imageapi import HOST_IMAGE, ImageID, ImageSummary, no_such_image
from cnm.runtime.container import imagename
from cnm.runtime.container.imageconfig import ImageDocument
from cnm.runtime.container.imageindex import Index, StoredImage


@dataclass(frozen=True, slots=True)
class Catalog:
    """The index, the documents of its images, and the image ``host``, which is in neither."""

    index: Index
    host: ImageDocument
    documents: Mapping[ImageID, ImageDocument] = field(default_factory=dict)

    def find(self, name: str) -> tuple[ImageID, str]:
        """The image, and the reference if the name was one ("" if it was an id).

        :raises InvalidParameter: no valid reference, or a prefix of several images.
        :raises NotFound: no such image.
        """
        if whole := imagename.whole_id(name):
            if whole in self.index.images or whole == self.host.id:
                return ImageID(whole), ""
            raise NotFound(no_such_image(whole))
        reference = imagename.parse(name).with_tag()
        if reference.reserved and reference.tag == "latest":
            return self.host.id, ""
        if (tagged := self._referenced(reference)) is not None:
            return tagged, str(reference)
        if (by_prefix := self._by_prefix(name)) is not None:
            return by_prefix, ""
        raise NotFound(no_such_image(str(reference)))

    def document(self, image_id: ImageID) -> ImageDocument:
        """:raises NotFound: the image has gone."""
        document = self.host if image_id == self.host.id else self.documents.get(image_id)
        if document is None:
            raise NotFound(no_such_image(image_id))
        return document

    def stored(self, image_id: ImageID) -> StoredImage:
        """:raises NotFound: the image has gone."""
        if image_id == self.host.id:
            return StoredImage(())
        image = self.index.images.get(image_id)
        if image is None:
            raise NotFound(no_such_image(image_id))
        return image

    def names(self, image_id: ImageID) -> list[str]:
        """The image's references as shown, sorted."""
        if image_id == self.host.id:
            return [f"{HOST_IMAGE}:latest"]
        return self.index.references_of(image_id)

    def sizes(self, image_id: ImageID) -> list[int]:
        """Bytes of each layer, lowest first."""
        return [self.index.layers[diff_id].size for diff_id in self.stored(image_id).layers]

    def summaries(self) -> list[ImageSummary]:
        """All images, newest first."""
        found = [self._summary(image_id) for image_id in self.index.images]
        return sorted(found, key=lambda item: (-item.created_ns, item.id))

    def _summary(self, image_id: ImageID) -> ImageSummary:
        document = self.document(image_id)
        return ImageSummary(
            id=image_id,
            references=tuple(self.names(image_id)),
            created_ns=document.created_ns,
            size=sum(self.sizes(image_id)),
            labels=document.config.labels,
        )

    def _referenced(self, reference: imagename.Reference) -> ImageID | None:
        """By name and tag; or by name and digest, which is the image's id here."""
        if not reference.digest:
            return self.index.references.get(str(reference))
        image_id = ImageID(reference.digest)
        repositories = (imagename.parse(name).repository for name in self.names(image_id))
        return image_id if reference.repository in repositories else None

    def _by_prefix(self, text: str) -> ImageID | None:
        prefix = imagename.id_prefix(text)
        if prefix is None:
            return None
        found = [image_id for image_id in self.index.images if image_id.startswith(prefix)]
        if len(found) > 1:
            raise InvalidParameter(
                f"image {text} is ambiguous ({len(found)} matches found based on ID prefix)"
            )
        return found[0] if found else None
