"""What images are: the values, and the contract that the container runtime and the API use.

An image is a configuration (whose digest is the image's id) and a stack of layers.
The name ``host`` needs no image: it stands for the machine's own root file system.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NewType, Protocol, runtime_checkable

ImageID = NewType("ImageID", str)  # sha256:<64 hex>, the digest of the configuration

HOST_IMAGE = "host"


class ByteSource(Protocol):
    """A stream of bytes: a file, a pipe, a chunked request body."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes, perhaps fewer; ``b""`` is the end."""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says of the containers made from it.

    Source: OCI image specification, "Image Configuration", object ``config``.
    """

    env: tuple[str, ...] = ()  # NAME=value
    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    working_dir: str = ""  # "": /
    user: str = ""  # user[:group], names or numbers; "": root
    exposed_ports: tuple[str, ...] = ()  # 80/tcp
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""  # "": SIGTERM
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """One row of ``cnm images``. Without references the image is dangling (``<none>``)."""

    id: ImageID
    references: tuple[str, ...]  # name:tag as shown, sorted
    created_ns: int  # nanoseconds since the epoch; 0: the image does not say
    size: int  # bytes of file content in all layers
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """One image that ``load`` brought, under the names that the archive gave it."""

    id: ImageID
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageUser:
    """A container that was made from an image."""

    container_id: str  # 64 hex digits
    running: bool


@dataclass(frozen=True, slots=True)
class ImageRemoval:
    """What ``rmi`` did: names taken away, images deleted."""

    untagged: tuple[str, ...] = ()
    deleted: tuple[ImageID, ...] = ()


Users = Callable[[ImageID], Sequence[ImageUser]]


@runtime_checkable
class Images(Protocol):
    """The images of one machine. Calls may come in parallel."""

    def summaries(self) -> Sequence[ImageSummary]:
        """All images, newest first; ``host`` is none of them."""

    def find(self, name: str) -> ImageID:
        """The image with this name, id or unique prefix of an id; ``host`` too.

        :raises InvalidParameter: no valid reference, or a prefix of several images.
        :raises NotFound: Docker's ``No such image: x:latest``.
        """

    def config(self, image_id: ImageID) -> ImageConfig:
        """:raises NotFound: the image has gone."""

    def lower_directories(self, image_id: ImageID) -> list[str]:
        """Absolute paths for overlayfs' ``lowerdir``, topmost first; ``["/"]`` for ``host``.

        They exist as long as the image does. :raises NotFound: the image has gone.
        """

    def import_tar(
        self, source: ByteSource, name: str = "", *, changes: Sequence[str] = (), message: str = ""
    ) -> ImageID:
        """Make an image of one layer from a root file system's tar.

        ``changes``: instructions such as ``CMD ["sh"]``. ``name`` may be left out.

        :raises InvalidParameter: bad name, bad change, no tar, a hostile or absurd entry (named).
        :raises Forbidden: the name is reserved.
        :raises KernelError: the disk is full, …; nothing is left behind.
        """

    def load(self, source: ByteSource) -> Sequence[LoadedImage]:
        """Take all images of a ``docker save`` or OCI archive, or none.

        Of an image for several platforms, the one for this machine. Errors as ``import_tar``.
        """

    def tag(self, name: str, target: str) -> None:
        """Give an image a further name; a name in use moves. Errors as ``find``'s."""

    def remove(self, name: str, users: Users, *, force: bool = False) -> ImageRemoval:
        """Take a name away, and with the last one the image.

        ``users`` tells the containers of an image; who calls sees to it that none is made
        meanwhile. An image with containers stays.

        :raises Conflict: it is in use, or has several names and ``name`` is an id.
        :raises NotFound: there is no such image.
        """


@runtime_checkable
class ImageDocuments(Protocol):
    """The Engine API's documents."""

    def inspect(self, name: str) -> dict[str, Any]:
        """What ``GET /images/NAME/json`` answers. Errors as ``Images.find``."""

    def history(self, name: str) -> list[dict[str, Any]]:
        """What ``GET /images/NAME/history`` answers. Errors as ``Images.find``."""


def no_such_image(reference: str) -> str:
    """Docker's text; clients look for its first words."""
    return f"No such image: {reference}"


def missing_image(reference: str) -> str:
    """What ``cnm run`` says when there is no such image; ``reference`` with its tag."""
    return (
        f"Unable to find image '{reference}' locally: make it with `cnm import ROOTFS.tar "
        f"{reference}` or `cnm load -i ARCHIVE.tar`, or run the image `{HOST_IMAGE}`"
    )
