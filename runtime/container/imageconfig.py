"""The configuration document of an image: read with care, or written for an import.

Sources: OCI image specification, "Image Configuration"; Docker's image specification 1.2.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from cnm.errors import InvalidParameter
from cnm.imageapi import ImageConfig, ImageID
from cnm.runtime.container.archive import shown

LARGEST_DOCUMENT = 8 << 20  # bytes of JSON; real ones have some kilobytes
_DEEPEST_STACK = 125  # Docker's own limit of layers
_HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ARCHITECTURES = {  # uname's words to Go's
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i686": "386",
    "i386": "386",
    "loongarch64": "loong64",
}
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class HistoryStep:
    """How an image came to be, one step of it."""

    created_ns: int = 0
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False  # the step made no layer


@dataclass(frozen=True, slots=True)
class ImageDocument:
    """A configuration document that was checked. ``raw`` is the whole of it."""

    id: ImageID
    architecture: str
    os: str
    created_ns: int
    config: ImageConfig
    diff_ids: tuple[str, ...]  # of the layers, lowest first
    raw: Mapping[str, Any] = field(hash=False)
    history: tuple[HistoryStep, ...] = ()  # oldest first


def machine_architecture() -> str:
    """This machine's architecture in Go's words, as images name it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def digest_of(data: bytes) -> str:
    """``sha256:<hex>``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_digest(value: object) -> bool:
    """Whether it is ``sha256:<64 hex>``: the only kind that we know, and a safe file name."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def read_json(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object. :raises InvalidParameter: it is none."""
    value = read_json_value(data, what)
    if not isinstance(value, dict):
        raise InvalidParameter(f"{what} is no JSON object")
    return value


def read_json_value(data: bytes, what: str) -> Any:
    """Any JSON value. :raises InvalidParameter: it is none, or absurdly large or deep."""
    if len(data) > LARGEST_DOCUMENT:
        raise InvalidParameter(f"{what} has more than {LARGEST_DOCUMENT} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"{what} is no JSON: {error}") from error


def read_document(data: bytes) -> ImageDocument:
    """:raises InvalidParameter: it is no image configuration; says what is wrong with it."""
    image_id = ImageID(digest_of(data))
    fields = _Fields(read_json(data, f"image configuration {image_id}"), image_id)
    rootfs = fields.section("rootfs")
    diff_ids = rootfs.strings("diff_ids")
    if not all(is_digest(item) for item in diff_ids):
        raise rootfs.bad("diff_ids", "a list of sha256 digests")
    if len(diff_ids) > _DEEPEST_STACK:
        raise InvalidParameter(f"image {image_id}: max depth exceeded ({_DEEPEST_STACK} layers)")
    return ImageDocument(
        id=image_id,
        architecture=fields.text("architecture"),
        os=fields.text("os"),
        created_ns=_read_time(fields),
        config=_read_config(fields.section("config")),
        diff_ids=diff_ids,
        raw=fields.values,
        history=tuple(_read_step(step) for step in fields.sections("history")),
    )


def import_document(config: ImageConfig, diff_id: str, created_ns: int, message: str) -> bytes:
    """The configuration document of an image made of one root file system."""
    comment = message or "Imported from -"
    created = format_time(created_ns)
    document = {
        "architecture": machine_architecture(),
        "comment": comment,
        "config": config_fields(config),
        "created": created,
        "history": [{"created": created, "comment": comment}],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def host_document() -> ImageDocument:
    """What stands for the machine's own root file system; it has no layers."""
    config = ImageConfig(env=(f"PATH={_HOST_PATH}",), cmd=("/bin/sh",))
    document = {
        "architecture": machine_architecture(),
        "comment": "the machine's own root file system",
        "config": config_fields(config),
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    return read_document(json.dumps(document, sort_keys=True).encode())


def config_fields(config: ImageConfig) -> dict[str, Any]:
    """The values in the document's words; what is empty is null, as Docker writes it."""
    fields: dict[str, Any] = {
        "Env": list(config.env) or None,
        "Cmd": list(config.cmd) or None,
        "Entrypoint": list(config.entrypoint) or None,
        "WorkingDir": config.working_dir,
        "User": config.user,
        "Labels": dict(config.labels) or None,
        "Volumes": {path: {} for path in config.volumes} or None,
    }
    if config.exposed_ports:
        fields["ExposedPorts"] = {port: {} for port in config.exposed_ports}
    if config.stop_signal:
        fields["StopSignal"] = config.stop_signal
    return fields


def format_time(time_ns: int) -> str:
    """RFC 3339 with nanoseconds, in UTC."""
    seconds, fraction = divmod(time_ns, 10**9)
    moment = _EPOCH + datetime.timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def _read_config(fields: _Fields) -> ImageConfig:
    labels = fields.section("Labels").values
    if not all(isinstance(value, str) for value in labels.values()):
        raise fields.bad("Labels", "an object of strings")
    return ImageConfig(
        env=fields.strings("Env"),
        cmd=fields.strings("Cmd"),
        entrypoint=fields.strings("Entrypoint"),
        working_dir=fields.text("WorkingDir"),
        user=fields.text("User"),
        exposed_ports=tuple(fields.section("ExposedPorts").values),
        labels=cast(Mapping[str, str], labels),
        stop_signal=fields.text("StopSignal"),
        volumes=tuple(fields.section("Volumes").values),
    )


def _read_step(fields: _Fields) -> HistoryStep:
    return HistoryStep(
        created_ns=_read_time(fields),
        created_by=fields.text("created_by"),
        comment=fields.text("comment"),
        empty_layer=fields.values.get("empty_layer") is True,
    )


def _read_time(fields: _Fields) -> int:
    text = fields.text("created")
    if not text:
        return 0
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        moment = datetime.datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    except ValueError as error:
        raise fields.bad("created", "a time such as 2024-05-01T10:00:00Z") from error
    seconds = (moment - _EPOCH) // datetime.timedelta(seconds=1)
    return seconds * 10**9 + int((match[2] or "0").ljust(9, "0"))


class _Fields:
    """Typed access to a JSON object; a missing field and null are the empty value."""

    def __init__(self, values: Mapping[str, Any], image_id: str, where: str = "") -> None:
        self.values = values
        self._image_id = image_id
        self._where = where

    def section(self, key: str) -> _Fields:
        """An object inside."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.bad(key, "an object")
        return _Fields(value or {}, self._image_id, f"{self._where}{key}.")

    def text(self, key: str) -> str:
        """A string."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.bad(key, "a string")
        return value or ""

    def strings(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self.values.get(key)
        if value is not None and not _is_list(value, str):
            raise self.bad(key, "a list of strings")
        return tuple(value or ())

    def sections(self, key: str) -> list[_Fields]:
        """A list of objects."""
        value = self.values.get(key)
        if value is not None and not _is_list(value, dict):
            raise self.bad(key, "a list of objects")
        return [_Fields(item, self._image_id, f"{self._where}{key}.") for item in value or ()]

    def bad(self, key: str, wanted: str) -> InvalidParameter:
        """The error that a field is not what it must be."""
        return InvalidParameter(
            f"image configuration {self._image_id}: {shown(self._where + key)} must be {wanted}"
        )


def _is_list(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)
