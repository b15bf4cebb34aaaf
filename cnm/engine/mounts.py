"""What a create request says of files: ``Binds``, ``Mounts``, ``Tmpfs`` and ``Volumes``.

Texts are checked and made into values. Docker's texts are those of moby's
``daemon/volume/mounts``.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cnm.engine.createbody import ContainerCreateBody, HostConfigBody, MountBody
from cnm.errors import InvalidParameter, NotSupported
from cnm.runtimeapi import Bind, Propagation, Tmpfs

_PROPAGATIONS = {item.value for item in Propagation} | {"private", "slave", "shared", "rshared"}
# one of each kind at most; labels (SELinux) and consistency mean nothing here
_MODES = (
    {"ro", "rw"},
    {"z", "Z"},
    _PROPAGATIONS,
    {"nocopy"},
    {"idmap"},  # ours: see Bind.mapped
    {"consistent", "cached", "delegated"},
)
_NO_VOLUMES = "volumes are not supported yet: give the path of a directory"
_SIZES = (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10))


@dataclass(frozen=True, slots=True)
class Files:
    """What is mounted in a container, as asked for."""

    binds: tuple[Bind, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()


def files(body: ContainerCreateBody) -> Files:
    """:raises InvalidParameter: with Docker's text. :raises NotSupported: volumes, …"""
    host = body.host_config
    binds = [_bind(text) for text in host.binds]
    binds += [_bind_mount(item) for item in host.mounts if _kind(item) == "bind"]
    found = Files(tuple(binds), tuple(_all_tmpfs(host)))
    targets = [item.destination for item in found.binds]
    taken = _each_once([*targets, *(item.destination for item in found.tmpfs)])
    if not {_target(path) for path in body.volumes} <= taken:  # clients name binds there, too
        raise NotSupported(_NO_VOLUMES)
    return found


def _each_once(destinations: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    for destination in destinations:
        if destination in seen:
            raise InvalidParameter(f"Duplicate mount point: {destination}")
        seen.add(destination)
    return seen


def _target(path: str) -> str:
    clean = os.path.normpath(path).replace("//", "/")
    if clean == "/":
        raise InvalidParameter("invalid specification: destination can't be '/'")
    return _absolute(path) and clean


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{path}' mount path must be absolute")
    return path


def _propagation(words: Iterable[str]) -> Propagation:
    """:raises NotSupported: the host would see the container's mounts."""
    for word in words:
        if word in ("shared", "rshared"):
            raise NotSupported(f"bind propagation {word} is not supported yet")
        if word in ("slave", "rslave"):
            return Propagation.SLAVE
    return Propagation.PRIVATE


# -v


def _bind(text: str) -> Bind:
    source, *rest = text.split(":")
    if not 1 <= len(rest) <= 2 or not source or (len(rest) == 1 and _is_mode(rest[0])):
        raise InvalidParameter(f"invalid volume specification: '{text}'")
    mode = rest[1] if len(rest) == 2 else ""
    if not _is_mode(mode):
        raise InvalidParameter(f"invalid mode: {mode}")
    if not source.startswith("/"):
        raise NotSupported(_NO_VOLUMES)
    words = mode.split(",")
    with_text = f"invalid volume specification: '{text}': "
    target = _worded(f'{with_text}invalid mount config for type "bind": ', _target, rest[0])
    return Bind(
        os.path.normpath(source),
        target,
        read_only="ro" in words,
        make_source=True,
        propagation=_propagation(words),
        mapped="idmap" in words,
    )


def _is_mode(text: str) -> bool:
    words = text.split(",") if text else []
    known = all(any(word in kind for kind in _MODES) for word in words)
    return known and all(sum(word in kind for word in words) <= 1 for kind in _MODES)


def _worded(prefix: str, check: Callable[[str], str], value: str) -> str:
    try:
        return check(value)
    except InvalidParameter as error:
        raise InvalidParameter(f"{prefix}{error}") from None


# --mount


def _kind(body: MountBody) -> str:
    """:raises InvalidParameter: :raises NotSupported: it cannot be mounted here."""
    what = _what(body)
    if body.type in ("volume", ""):
        raise NotSupported(_NO_VOLUMES)
    if body.type in ("image", "npipe", "cluster"):
        raise NotSupported(f'mounts of type "{body.type}" are not supported yet')
    if body.type not in ("bind", "tmpfs"):
        raise InvalidParameter(f"{what}mount type unknown")
    for kind, name in (("bind", "BindOptions"), ("tmpfs", "TmpfsOptions")):
        if body.type != kind and getattr(body, f"{kind}_options") is not None:
            raise InvalidParameter(f"{what}field {name} must not be specified")
    if body.volume_options is not None:
        raise InvalidParameter(f"{what}field VolumeOptions must not be specified")
    if not body.target:
        raise InvalidParameter(f"{what}field Target must not be empty")
    return body.type


def _what(body: MountBody) -> str:
    return f'invalid mount config for type "{body.type}": '


def _bind_mount(body: MountBody) -> Bind:
    what, options = _what(body), body.bind_options
    if not body.source:
        raise InvalidParameter(f"{what}field Source must not be empty")
    source = _worded(what, _absolute, body.source)
    make = options is not None and options.create_mountpoint
    if not make and not os.path.lexists(source):
        raise InvalidParameter(f"{what}bind source path does not exist: {source}")
    wanted = options.propagation if options is not None else ""
    if wanted and wanted not in _PROPAGATIONS:
        raise InvalidParameter(f"{what}invalid propagation mode: {wanted}")
    return Bind(
        os.path.normpath(source),
        _worded(what, _target, body.target),
        read_only=body.read_only,
        make_source=make,
        propagation=_propagation((wanted,)),
        recursive=options is None or not options.non_recursive,
    )


# tmpfs


def _all_tmpfs(host: HostConfigBody) -> Iterable[Tmpfs]:
    for path, options in host.tmpfs.items():
        yield Tmpfs(_target(path), tuple(filter(None, options.split(","))))
    for item in host.mounts:
        if _kind(item) == "tmpfs":
            yield _tmpfs_mount(item)


def _tmpfs_mount(body: MountBody) -> Tmpfs:
    what, options = _what(body), body.tmpfs_options
    if body.source:
        raise InvalidParameter(f"{what}field Source must not be specified")
    words = ["ro"] if body.read_only else []
    if options is not None:
        words += [f"mode={options.mode:o}"] if options.mode else []
        words += [f"size={_short(options.size_bytes)}"] if options.size_bytes else []
        words += [_tmpfs_option(what, pair) for pair in options.options]
    return Tmpfs(_worded(what, _target, body.target), tuple(words))


def _tmpfs_option(what: str, pair: list[str]) -> str:
    if not 1 <= len(pair) <= 2:
        raise InvalidParameter(f"{what}invalid option array length")
    if pair[0] not in ("exec", "noexec"):
        raise InvalidParameter(f"{what}invalid option: {pair[0]}")
    return "=".join(pair)


def _short(size: int) -> str:
    for suffix, factor in _SIZES:
        if size % factor == 0:
            return f"{size // factor}{suffix}"
    return str(size)
