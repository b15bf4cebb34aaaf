"""``--volume`` and ``--mount``: the files of a new container as the API has them."""

from __future__ import annotations

import os
from collections.abc import Iterable

from cnm.cli.command import FALSE, TRUE, comma_separated
from cnm.cli.errors import CommandError
from cnm.cli.quantities import Malformed, size_in_bytes

_PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_SWITCHES = {  # key: the options that it belongs to, and its name there
    "readonly": ("", "ReadOnly"),
    "ro": ("", "ReadOnly"),
    "bind-nonrecursive": ("BindOptions", "NonRecursive"),
    "volume-nocopy": ("VolumeOptions", "NoCopy"),
}
_ALL_BITS = 0o7777
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
    """``type=bind,source=…,target=…[,readonly][,bind-…]`` or ``type=tmpfs,…`` as the API has it.

    :raises CommandError: for what cannot be read, or for another type.
    """
    found: dict[str, object] = {"Type": "volume"}
    for field in comma_separated(value):
        key, equals, text = field.partition("=")
        key = key.lower()
        if key in _SWITCHES:
            _set_switch(found, key, text if equals else "true")
        elif not equals:
            raise CommandError(f"invalid field '{field}' must be a key=value pair")
        else:
            _set(found, key, text, field)
    if not found["Type"]:
        raise CommandError("type is required")
    if not found.get("Target"):
        raise CommandError("target is required")
    for kind in ("bind", "volume", "tmpfs"):
        if f"{kind.title()}Options" in found and found["Type"] != kind:
            raise CommandError(f"cannot mix '{kind}-*' options with mount type '{found['Type']}'")
    return found


def _set_switch(found: dict[str, object], key: str, text: str) -> None:
    if text not in TRUE + FALSE:
        raise CommandError(f"invalid value for {key}: {text}")
    options, name = _SWITCHES[key]
    if options:
        _options(found, options)[name] = text in TRUE
    elif text in TRUE:
        found[name] = True


def _set(found: dict[str, object], key: str, text: str, field: str) -> None:
    if key == "type":
        found["Type"] = text.lower()
    elif key in _KEYS:
        found[_KEYS[key]] = _absolute(text) if _KEYS[key] == "Source" else text
    elif key == "bind-propagation":
        if text.lower() not in _PROPAGATIONS:
            raise CommandError(f"invalid value for {key}: {text}")
        _options(found, "BindOptions")["Propagation"] = text.lower()
    elif key == "tmpfs-size":
        _options(found, "TmpfsOptions")["SizeBytes"] = _size(key, text)
    elif key == "tmpfs-mode":
        _options(found, "TmpfsOptions")["Mode"] = _mode(key, text)
    else:
        raise CommandError(f"unexpected key '{key}' in '{field}'")


def _options(found: dict[str, object], name: str) -> dict[str, object]:
    options = found.setdefault(name, {})
    assert isinstance(options, dict)
    return options


def _size(key: str, text: str) -> int:
    try:
        return size_in_bytes(text)
    except Malformed:
        raise CommandError(f"invalid value for {key}: {text}") from None


def _mode(key: str, text: str) -> int:
    """Octal, as chmod has it."""
    if not text or set(text) - set("01234567") or int(text, 8) > _ALL_BITS:
        raise CommandError(f"invalid value for {key}: {text}")
    return int(text, 8)
