"""DELs that found no daemon: kept beside its socket until it takes them up.

A runtime goes on tearing the container down when DEL has succeeded, and calls it no more. So
a DEL is either done or written here; the daemon that starts next reads the folder once it
listens, and the plugin, when it has written, asks once more: so none falls in between.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping

FOLDER = ".cni-pending"  # behind the socket's own name: two daemons' sockets may share a folder
_SUFFIX = ".json"
_KEYS = ("Network", "Container", "Interface")

Key = Mapping[str, str]


def folder(socket: str) -> str:
    """Where they lie for the daemon at this socket."""
    return socket + FOLDER


def keep(socket: str, key: Key) -> None:
    """Write one down, whole or not at all. Again is fine.

    :raises OSError: it cannot be written.
    """
    path = _path(socket, key)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    draft = f"{path}.{os.getpid()}"
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(dict(key), file)
    os.rename(draft, path)


def is_kept(socket: str, key: Key) -> bool:
    """Whether one was written down and not taken up yet."""
    return os.path.exists(_path(socket, key))


def drop(socket: str, key: Key) -> None:
    """It is done. Gone is success."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_path(socket, key))


def all_of(socket: str) -> Iterator[Key]:
    """What is kept; what is no such record is removed."""
    try:
        names = sorted(os.listdir(folder(socket)))
    except FileNotFoundError:
        return
    for name in names:
        path = os.path.join(folder(socket), name)
        found = _record(path) if name.endswith(_SUFFIX) else None
        if found is not None:
            yield found
        elif not _is_being_written(name):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _record(path: str) -> Key | None:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        return {key: str(found[key]) for key in _KEYS}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_being_written(name: str) -> bool:
    """A draft, of a plugin that was not killed."""
    pid = name.rpartition(".")[2]
    return pid.isdigit() and os.path.exists(f"/proc/{pid}")


def _path(socket: str, key: Key) -> str:
    text = "\0".join(key[name] for name in _KEYS)
    return os.path.join(folder(socket), hashlib.sha256(text.encode()).hexdigest()[:32] + _SUFFIX)
