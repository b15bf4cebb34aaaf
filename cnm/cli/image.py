"""``cnm images|rmi|tag``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping

from cnm.cli.client import Client, segment
from cnm.cli.command import Call, Command, Flag
from cnm.cli.display import age, local_time, short_id
from cnm.cli.errors import CommandError, ConnectionFailed, DaemonError
from cnm.cli.format import FORMAT_HELP, Listing
from cnm.cli.quantities import shown_size
from cnm.cli.values import Row

_NOT_FOUND = 404
_NONE = "<none>"
_DIGEST = "sha256:"
_HUB = "docker.io/"
_LIBRARY = "library/"

IMAGES = Listing(
    "*formatter.imageContext",
    {
        "ID": "IMAGE ID",
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "Digest": "DIGEST",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "Size": "SIZE",
        "Containers": "CONTAINERS",
        "VirtualSize": "SIZE",
        "SharedSize": "SHARED SIZE",
        "UniqueSize": "UNIQUE SIZE",
    },
    ("Repository", "Tag", "ID", "CreatedSince", "Size"),
    raw=(
        "repository: {{ .Repository }}\ntag: {{.Tag}}\nimage_id: {{.ID}}\n"
        "created_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
    ),
)


def images(call: Call) -> int:
    """Lists images, the newest first, a line for each of their names."""
    found = Client(call.host).get(
        "/images/json", all="1" if call.switch("all") else None, filters=_filters(call)
    )
    rows = [
        _row(image, name, call.switch("no-trunc"))
        for image in (found if isinstance(found, list) else [])
        for name in image.get("RepoTags") or [f"{_NONE}:{_NONE}"]
    ]
    IMAGES.show(rows, call.string("format"), call.switch("quiet"))
    return 0


def _filters(call: Call) -> str | None:
    """The ``--filter`` flags, and the name that is asked for."""
    filters = call.filters()
    if not call.arguments:
        return filters
    chosen = json.loads(filters or "{}")
    chosen.setdefault("reference", {})[call.arguments[0]] = True
    return json.dumps(chosen, separators=(",", ":"), sort_keys=True)


def _row(image: Mapping[str, object], name: str, whole: bool) -> Row:
    def number(key: str, default: int) -> int:
        value = image.get(key)
        return value if isinstance(value, int) else default

    repository, _, tag = name.rpartition(":")
    identifier = str(image.get("Id") or "")
    created, size, shared = number("Created", 0), number("Size", 0), number("SharedSize", -1)
    containers = number("Containers", -1)
    return IMAGES.row(
        {
            "ID": identifier if whole else short_id(identifier.removeprefix(_DIGEST)),
            "Repository": repository,
            "Tag": tag,
            "Digest": _NONE,
            "CreatedSince": age(max(time.time() - created, 0)) + " ago",
            "CreatedAt": local_time(created),
            "Size": shown_size(size),
            "Containers": "N/A" if containers < 0 else str(containers),
            "VirtualSize": shown_size(size),
            "SharedSize": "N/A" if shared < 0 else shown_size(shared),
            "UniqueSize": "N/A" if shared < 0 else shown_size(size - shared),
        }
    )


def rmi(call: Call) -> int:
    """Takes names from images, and with the last one removes them; prints what was done."""
    client = Client(call.host)
    failures: list[CommandError] = []
    for name in call.arguments:
        try:
            removed = client.delete(
                f"/images/{image_path(name)}",
                force="1" if call.switch("force") else None,
                noprune="1" if call.switch("no-prune") else None,
            )
        except ConnectionFailed:
            raise
        except CommandError as error:
            failures.append(error)
            continue
        for item in removed if isinstance(removed, list) else []:
            for word in ("Deleted", "Untagged"):
                if item.get(word):
                    sys.stdout.write(f"{word}: {item[word]}\n")
    text = "\n".join(map(str, failures))
    if failures and not (call.switch("force") and all(map(_missing, failures))):
        raise CommandError(text)
    if text:
        sys.stderr.write(f"{text}\n")
    return 0


def _missing(error: CommandError) -> bool:
    return isinstance(error, DaemonError) and error.code == _NOT_FOUND


def tag(call: Call) -> int:
    """Gives an image a further name."""
    source, target = call.arguments
    repository, new_tag = whole_name(target)
    Client(call.host).post(f"/images/{image_path(source)}/tag", repo=repository, tag=new_tag)
    return 0


def image_path(name: str) -> str:
    """An image's name as it stands in a path: its slashes stay."""
    segment(name, "image")  # refused when empty
    return "/".join(segment(part, "image") if part else "" for part in name.split("/"))


def whole_name(name: str) -> tuple[str, str]:
    """``x`` is ``docker.io/library/x`` with the tag ``latest``."""
    repository, colon, new_tag = name.rpartition(":")
    if not colon or "/" in new_tag:  # the colon of a registry's port
        repository, new_tag = name, "latest"
    first, slash, _ = repository.partition("/")
    if not slash:
        return f"{_HUB}{_LIBRARY}{repository}", new_tag
    elsewhere = "." in first or ":" in first or first == "localhost"
    return (repository if elsewhere else f"{_HUB}{repository}"), new_tag


LIST = Command(
    images,
    "List images",
    usage="[OPTIONS] [REPOSITORY[:TAG]]",
    flags=(
        Flag("all", "bool", "Intermediate images too", short="a"),
        Flag("filter", "filter", 'Show only what matches, as "reference=busy*"', short="f"),
        Flag("format", "string", FORMAT_HELP),
        Flag("no-trunc", "bool", "Do not shorten ids"),
        Flag("quiet", "bool", "Print ids only", short="q"),
    ),
    maximum=1,
    names=("images",),
    examples=("images", "images busybox", "images --format '{{.Repository}}:{{.Tag}} {{.Size}}'"),
)
RMI = Command(
    rmi,
    "Remove one or more images",
    usage="[OPTIONS] IMAGE [IMAGE...]",
    flags=(
        Flag("force", "bool", "Though stopped containers use it", short="f"),
        Flag("no-prune", "bool", "Keep untagged parents"),
    ),
    minimum=1,
    maximum=None,
    names=("images",),
    examples=("rmi busybox:1",),
)
TAG = Command(
    tag,
    "Give an image a further name",
    usage="SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    minimum=2,
    maximum=2,
    names=("images",),
    interspersed=False,
    examples=("tag busybox:latest busybox:1",),
)
