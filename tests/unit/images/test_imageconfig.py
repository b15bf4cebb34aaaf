"""Configuration documents: read, refused, written; and the API's documents from them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.images.tars import Image, digest

from cnm.errors import InvalidParameter
from cnm.imageapi import ImageConfig, ImageID, ImageRemoval, LoadedImage, missing_image
from cnm.runtime.container.imageconfig import (
    LARGEST_DOCUMENT,
    format_time,
    import_document,
    read_document,
    read_json_value,
)
from cnm.runtime.container.imagedocument import load_messages, removal_document

LAYER = digest(b"")
FULL = ImageConfig(
    env=("A=1",),
    cmd=("sh",),
    entrypoint=("/x",),
    working_dir="/w",
    user="u",
    exposed_ports=("80/tcp",),
    labels={"a": "b"},
    stop_signal="SIGQUIT",
    volumes=("/v",),
)


def test_what_is_written_is_read() -> None:
    data = import_document(FULL, LAYER, 1_700_000_000_123_456_789, "")
    document = read_document(data)
    assert document.config == FULL
    assert document.id == digest(data)
    assert (document.created_ns, document.os) == (1_700_000_000_123_456_789, "linux")
    assert document.diff_ids == (LAYER,)
    assert document.raw["comment"] == "Imported from -"


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T01:00:00.5+01:00", 5 * 10**8),
        ("0001-01-01T00:00:00Z", -62135596800 * 10**9),
        (None, 0),
    ],
)
def test_created(text: str | None, nanoseconds: int) -> None:
    document = read_document(Image([], changes={"created": text}).document())
    assert document.created_ns == nanoseconds


def test_format_time() -> None:
    assert format_time(1_700_000_000_000_000_001) == "2023-11-14T22:13:20.000000001Z"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rootfs": []}, '"rootfs" must be an object'),
        ({"rootfs": {"diff_ids": "x"}}, '"rootfs.diff_ids" must be a list of strings'),
        ({"rootfs": {"diff_ids": ["sha256:../../x"]}}, "must be a list of sha256 digests"),
        ({"rootfs": {"diff_ids": [LAYER] * 126}}, "max depth exceeded (125 layers)"),
        ({"config": [1]}, '"config" must be an object'),
        ({"config": {"Env": "A=1"}}, '"config.Env" must be a list of strings'),
        ({"config": {"Cmd": [1]}}, '"config.Cmd" must be a list of strings'),
        ({"config": {"User": 0}}, '"config.User" must be a string'),
        ({"config": {"Labels": {"a": 1}}}, '"config.Labels" must be an object of strings'),
        ({"config": {"ExposedPorts": ["80"]}}, '"config.ExposedPorts" must be an object'),
        ({"history": {}}, '"history" must be a list of objects'),
        ({"history": [{"created": 5}]}, '"history.created" must be a string'),
        ({"created": "yesterday"}, '"created" must be a time such as'),
        ({"created": "2024-13-01T00:00:00Z"}, '"created" must be a time such as'),
        ({"os": 1}, '"os" must be a string'),
    ],
)
def test_nonsense(changes: dict[str, Any], message: str) -> None:
    image = Image([], changes=changes)
    with pytest.raises(InvalidParameter) as caught:
        read_document(image.document())
    assert str(caught.value).startswith(f"image configuration {image.id}: ") or "depth" in message
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"[" * 100_000, b" " * (LARGEST_DOCUMENT + 1)],
    ids=["empty", "cut", "bytes", "deep", "long"],
)  # fmt: skip
def test_no_json(data: bytes) -> None:
    with pytest.raises(InvalidParameter, match=r"^x (is no JSON|has more than)"):
        read_json_value(data, "x")


def test_no_object() -> None:
    with pytest.raises(InvalidParameter, match="is no JSON object"):
        read_document(json.dumps([]).encode())


def test_answers() -> None:
    image_id = ImageID("sha256:" + "0" * 64)
    assert removal_document(ImageRemoval(("x:1",), (image_id,))) == [
        {"Untagged": "x:1"},
        {"Deleted": image_id},
    ]
    loaded = [LoadedImage(image_id, ("x:1", "y:1")), LoadedImage(image_id, ())]
    assert load_messages(loaded) == [
        {"stream": "Loaded image: x:1\n"},
        {"stream": "Loaded image: y:1\n"},
        {"stream": f"Loaded image ID: {image_id}\n"},
    ]


def test_the_text_for_run() -> None:
    assert missing_image("x:latest").startswith("Unable to find image 'x:latest' locally: ")
    assert "cnm import ROOTFS.tar x:latest" in missing_image("x:latest")
