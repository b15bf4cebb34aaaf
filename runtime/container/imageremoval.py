"""What ``rmi`` may do: Docker's rules and texts, as a decision on values. No I/O.

One difference: Docker deletes, when forced, an image of stopped containers, and its
layer store keeps what they need. Here the image itself keeps its layers; so it loses
its names and stays, dangling, until its containers are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnm.errors import Conflict
from cnm.imageapi import ImageID, ImageUser
from cnm.runtime.container.archive import shown

_SHORT = 12  # digits of an id in a message


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """The names to take away, and whether the image goes too."""

    untag: tuple[str, ...]
    delete: bool


def plan_by_name(
    image_id: ImageID,
    names: Sequence[str],
    name: str,
    asked: str,
    users: Sequence[ImageUser],
    force: bool,
) -> RemovalPlan:
    """``rmi NAME[:TAG]``. ``names``: all of the image's; ``asked``: the name as the user wrote it.

    :raises Conflict: it is the last name of an image that containers use.
    """
    if len(names) > 1:
        return RemovalPlan((name,), delete=False)
    if users and not force:
        raise Conflict(
            f"conflict: unable to remove repository reference {shown(asked)} (must force) - "
            f"container {users[0].container_id[:_SHORT]} is using its referenced image "
            f"{_short(image_id)}"
        )
    return RemovalPlan((name,), delete=not users)


def plan_by_id(
    image_id: ImageID, names: Sequence[str], users: Sequence[ImageUser], force: bool
) -> RemovalPlan:
    """``rmi ID``.

    :raises Conflict: a container uses it; or it has several names (unless forced).
    """
    running = [user for user in users if user.running]
    if running:
        raise _conflict(image_id, running[0], forcible=False)
    if len(names) > 1 and not force:
        raise Conflict(
            f"conflict: unable to delete {_short(image_id)} (must be forced) - "
            "image is referenced in multiple repositories"
        )
    if users and not (force and names):
        raise _conflict(image_id, users[0], forcible=not force and bool(names))
    return RemovalPlan(tuple(names), delete=not users)


def _conflict(image_id: ImageID, user: ImageUser, *, forcible: bool) -> Conflict:
    state = "running" if user.running else "stopped"
    force = "must be forced" if forcible else "cannot be forced"
    return Conflict(
        f"conflict: unable to delete {_short(image_id)} ({force}) - "
        f"image is being used by {state} container {user.container_id[:_SHORT]}"
    )


def _short(image_id: ImageID) -> str:
    return image_id.removeprefix("sha256:")[:_SHORT]
