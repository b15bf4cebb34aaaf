"""``--volume`` and ``--mount``: the files of a new container as the API has them."""

from __future__ import annotations

import os
from collections.abc import Iterable

from cnm.cli.command import FALSE, TRUE, comma_separated
from cnm.cli.errors import CommandError

_PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_KEYS = {"source": "Source", "src": "Source"} | dict.fromkeys(
    ("target", "dst", "destination"), "Target"
)


def split_volumes(values: Iterable[str]) -> tuple[list[str], dict[str, dict[str, object]]]:
    """The binds, and the volumes without a source.

    :raises CommandError: with Docker's words, for what cannot be read.
    """
    binds: list[str] = []
    anonymous: dict[str, dict[str, object]] = {}
    for value in dict.fromkeys(values):
        source, colon, target = value.partition(":")
        _check_volume(value)
        if colon:
            binds.append(f"{_absolute(source)}:{target}")
        else:
            anonymous[value] = {}
    return binds, anonymous


def _check_volume(value: str) -> None:
    parts = value.split(":")
    problem = ""
    if not value:
        raise CommandError("invalid empty volume spec")
    if "" in parts:
        problem = "empty section between colons"
    elif len(parts) > 3:
        problem = "too many colons"
    if problem:
        raise CommandError(f"invalid spec: {value}: {problem}")


def _absolute(path: str) -> str:
    """``./x`` and ``../x`` from here; other names are volumes."""
    return os.path.abspath(path) if path.startswith(".") else path


def mount_problem(value: str) -> str:
    """What is wrong with ``--mount value``."""
    try:
        mount(value)
    except CommandError as error:
        return str(error)
    return ""


def mount(value: str) -> dict[str, object]:
    """``type=bind,source=…,target=…[,readonly][,bind-propagation=…]`` as the API has it.

    :raises CommandError: for what cannot be read, or for another type.
    """
    found: dict[str, object] = {"Type": "volume"}
    for field in comma_separated(value):
        key, equals, text = field.partition("=")
        key = key.lower()
        if key in ("readonly", "ro"):
            if _switch(key, text if equals else "true"):
                found["ReadOnly"] = True
        elif not equals:
            raise CommandError(f"invalid field '{field}' must be a key=value pair")
        else:
            _set(found, key, text, field)
    if not found.get("Target"):
        raise CommandError("target is required")
    if found["Type"] != "bind":
        raise CommandError(f"mount type '{found['Type']}' is not supported: only bind is")
    return found


def _set(found: dict[str, object], key: str, text: str, field: str) -> None:
    if key == "type":
        found["Type"] = text.lower()
    elif key in _KEYS:
        found[_KEYS[key]] = _absolute(text) if _KEYS[key] == "Source" else text
    elif key == "bind-propagation":
        if text.lower() not in _PROPAGATIONS:
            raise CommandError(f"invalid value for {key}: {text}")
        found["BindOptions"] = {"Propagation": text.lower()}
    else:
        raise CommandError(f"unexpected key '{key}' in '{field}'")


def _switch(key: str, text: str) -> bool:
    if text not in TRUE + FALSE:
        raise CommandError(f"invalid value for {key}: {text}")
    return text in TRUE
