"""The Engine API's documents about images. No I/O.

Source: Docker Engine API, ``ImageInspect``, ``ImageSummary``, ``HistoryResponseItem``,
``ImageDeleteResponseItem``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnm.imageapi import ImageRemoval, ImageSummary, LoadedImage
from cnm.runtime.container.imageconfig import (
    HistoryStep,
    ImageDocument,
    config_fields,
    format_time,
)

_NEVER = "0001-01-01T00:00:00Z"
# what Docker's inspect shows of a configuration besides what the image itself says
_CONFIG_DEFAULTS: Mapping[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Image": "",
    "OnBuild": None,
}


def inspect_document(
    document: ImageDocument,
    references: Sequence[str],
    size: int,
    tagged_ns: int,
    lower_directories: Sequence[str],
) -> dict[str, Any]:
    """``GET /images/NAME/json``."""
    raw = document.raw
    lower = {"LowerDir": ":".join(lower_directories[1:])} if lower_directories[1:] else {}
    answer: dict[str, Any] = {
        "Id": document.id,
        "RepoTags": list(references),
        "RepoDigests": [],
        "Parent": "",
        "Comment": raw.get("comment") or "",
        "Created": raw.get("created") or format_time(0),
        "DockerVersion": raw.get("docker_version") or "",
        "Author": raw.get("author") or "",
        "Config": {
            **_CONFIG_DEFAULTS,
            **config_fields(document.config),
            **(raw.get("config") or {}),
        },
        "Architecture": document.architecture,
        "Os": document.os,
        "Size": size,
        "VirtualSize": size,  # the same number since layers are shared; gone in API 1.44
        "GraphDriver": {
            "Name": "overlay2",
            "Data": {**lower, "UpperDir": lower_directories[0]} if lower_directories else {},
        },
        "RootFS": {"Type": "layers", "Layers": list(document.diff_ids)},
        "Metadata": {"LastTagTime": format_time(tagged_ns) if tagged_ns else _NEVER},
    }
    if raw.get("variant"):
        answer["Variant"] = raw["variant"]
    return answer


def history_document(
    document: ImageDocument, references: Sequence[str], sizes: Sequence[int]
) -> list[dict[str, Any]]:
    """``GET /images/NAME/history``, newest step first. ``sizes``: of the layers, lowest first."""
    left = list(reversed(sizes))
    steps = [
        _step(step, left.pop() if left and not step.empty_layer else 0) for step in document.history
    ]
    if not steps:  # an image may do without a history; its layers count all the same
        steps = [_step(HistoryStep(document.created_ns), sum(sizes))]
    steps.reverse()
    steps[0].update(Id=document.id, Tags=list(references) or None)
    return steps


def _step(step: HistoryStep, size: int) -> dict[str, Any]:
    return {
        "Id": "<missing>",
        "Created": step.created_ns // 10**9,
        "CreatedBy": step.created_by,
        "Tags": None,
        "Size": size,
        "Comment": step.comment,
    }


def list_document(summary: ImageSummary, *, containers: int = -1) -> dict[str, Any]:
    """An item of ``GET /images/json``. ``containers``: how many use it; -1: not counted."""
    return {
        "Id": summary.id,
        "ParentId": "",
        "RepoTags": list(summary.references),
        "RepoDigests": [],
        "Created": summary.created_ns // 10**9,
        "Size": summary.size,
        "VirtualSize": summary.size,
        "SharedSize": -1,
        "Labels": dict(summary.labels) or None,
        "Containers": containers,
    }


def removal_document(removal: ImageRemoval) -> list[dict[str, str]]:
    """What ``DELETE /images/NAME`` answers."""
    untagged = [{"Untagged": name} for name in removal.untagged]
    return untagged + [{"Deleted": image_id} for image_id in removal.deleted]


def load_messages(images: Sequence[LoadedImage]) -> list[dict[str, str]]:
    """What ``POST /images/load`` answers, an object a line."""
    lines = []
    for image in images:
        lines += [f"Loaded image: {name}\n" for name in image.references]
        if not image.references:
            lines.append(f"Loaded image ID: {image.id}\n")
    return [{"stream": line} for line in lines]
