"""Names of containers: what is a good one, and one for those that got none."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

from cnm.errors import Conflict, InvalidParameter

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_ATTEMPTS = 8

_QUALITIES = (
    "able amber bold brave brisk calm civil clear clever crisp deft eager early fair fleet fond "
    "frank free fresh gentle glad golden grand happy hardy honest humble jolly keen kind lively "
    "loyal lucid mellow merry mild modest neat nimble noble open patient plain proud quick quiet "
    "rapid ready robust sage serene sharp silver sincere smooth sober solid spry steady still "
    "stout sunny swift tidy tranquil trusty upbeat vivid warm wise witty zesty"
).split()
_BIRDS = (
    "auk avocet bittern bunting buzzard coot crane crow curlew dipper dove duck dunlin dunnock "
    "eagle egret eider falcon finch gannet godwit goose grebe grouse gull harrier hawk heron "
    "hoopoe ibis jackdaw jay kestrel kite knot lapwing lark linnet magpie martin merlin osprey "
    "ouzel owl petrel pigeon pintail pipit plover puffin quail rail raven redpoll robin rook "
    "ruff shrike siskin snipe sparrow starling stork swallow swan swift teal tern thrush tit "
    "twite wagtail warbler wigeon wren"
).split()


def check(name: str) -> str:
    """The name without Docker's leading slash.

    :raises InvalidParameter: with Docker's text.
    """
    bare = name.removeprefix("/")
    if not _NAME.fullmatch(bare):
        raise InvalidParameter(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    return bare


def invent(taken: Callable[[str], bool]) -> str:
    """Two words that nobody has; with a number when the words get short."""
    for attempt in range(_ATTEMPTS):
        name = f"{secrets.choice(_QUALITIES)}_{secrets.choice(_BIRDS)}"
        if attempt >= _ATTEMPTS // 2:
            name += str(secrets.randbelow(10_000))
        if not taken(name):
            return name
    return f"container_{secrets.token_hex(6)}"


def in_use(name: str, holder: str) -> Conflict:
    """Docker's text for a name that another container has."""
    return Conflict(
        f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
