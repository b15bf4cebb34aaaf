"""Images as the core sees them: events, and none removed while a container is made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnm.core.creation import IMAGES_LOCK
from cnm.core.events import Events
from cnm.core.locks import Locks
from cnm.imageapi import (
    ByteSource,
    ImageID,
    ImageRemoval,
    Images,
    ImageSummary,
    ImageUser,
    LoadedImage,
)


class ImageStock:
    """The verbs on images; see ``cnm.imageapi.Images`` for what they raise."""

    def __init__(
        self,
        images: Images,
        locks: Locks,
        events: Events,
        users: Callable[[ImageID], Sequence[ImageUser]],
    ) -> None:
        self.store = images
        self._locks = locks
        self._events = events
        self._users = users

    def summaries(self) -> list[tuple[ImageSummary, int]]:
        """All images, newest first, each with the number of its containers."""
        return [(item, len(self._users(item.id))) for item in self.store.summaries()]

    def import_tar(
        self, source: ByteSource, name: str, changes: Sequence[str], message: str
    ) -> ImageID:
        """Make an image of a root file system's tar."""
        image_id = self.store.import_tar(source, name, changes=changes, message=message)
        self._tell("import", image_id, name)
        return image_id

    def load(self, source: ByteSource) -> Sequence[LoadedImage]:
        """Take the images of an archive."""
        loaded = self.store.load(source)
        for item in loaded:
            self._tell("load", item.id, next(iter(item.references), ""))
        return loaded

    def tag(self, name: str, target: str) -> None:
        """Give an image a further name."""
        self.store.tag(name, target)
        self._tell("tag", self.store.find(target), target)

    def remove(self, name: str, *, force: bool) -> ImageRemoval:
        """Take a name away, and with the last one the image."""
        with self._locks.name(IMAGES_LOCK):
            image_id = self.store.find(name)
            removal = self.store.remove(name, self._users, force=force)
        for reference in removal.untagged:
            self._tell("untag", image_id, reference)
        for deleted in removal.deleted:
            self._tell("delete", deleted, deleted)
        return removal

    def _tell(self, action: str, image_id: str, name: str) -> None:
        self._events.publish("image", action, image_id, {"name": name or image_id})
