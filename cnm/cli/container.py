"""``cnm adopt|release|ps``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

from cnm.cli.client import Client, segment
from cnm.cli.command import Call, Command, Flag
from cnm.cli.display import age, labels, local_time, ports, short_id
from cnm.cli.errors import CommandError, ConnectionFailed
from cnm.cli.format import FORMAT_HELP, Listing
from cnm.cli.network import label_problem
from cnm.cli.values import Row

_COMMAND_WIDTH = 20
_MOUNT_WIDTH = 15
_DIGEST = "sha256:"
# Where `ip netns` keeps names; the second is where older systems had them.
_NETNS_FOLDERS = ("/run/netns", "/var/run/netns")

CONTAINERS = Listing(
    "*formatter.ContainerContext",
    {
        "ID": "CONTAINER ID",
        "Names": "NAMES",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "CreatedAt": "CREATED AT",
        "RunningFor": "CREATED",
        "Ports": "PORTS",
        "State": "STATE",
        "Status": "STATUS",
        "Labels": "LABELS",
        "Mounts": "MOUNTS",
        "LocalVolumes": "LOCAL VOLUMES",
        "Networks": "NETWORKS",
    },
    ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"),
)


def adopt(call: Call) -> int:
    """Makes a namespace a container; prints its id."""
    body = adoption(call)
    answer = Client(call.host).post("/cnm/v1/adopt", body)
    if isinstance(answer, dict):
        sys.stdout.write(f"{answer.get('Id', '')}\n")
    return 0


def adoption(call: Call) -> dict[str, object]:
    """The body of the request.

    :raises CommandError: unless exactly one of ``--netns`` and ``--pid`` is given.
    """
    if call.given("netns") == call.given("pid"):
        raise CommandError("say which namespace: either --netns PATH or --pid PID")
    body: dict[str, object] = {"Name": call.arguments[0], "Labels": call.mapping("label")}
    if call.given("pid"):
        if call.integer("pid") <= 0:
            raise CommandError(f"invalid --pid {call.integer('pid')}: a process id is above 0")
        body["Pid"] = call.integer("pid")
    else:
        body["Netns"] = netns_path(call.string("netns"))
    return body


def netns_path(name: str) -> str:
    """The absolute path of a namespace; a bare name is one of ``ip netns``.

    :raises CommandError: for an empty one.
    """
    if not name:
        raise CommandError("invalid --netns: the path is empty")
    if "/" in name:
        return os.path.abspath(name)
    paths = [os.path.join(folder, name) for folder in _NETNS_FOLDERS]
    return next((path for path in paths if os.path.exists(path)), paths[0])


def release(call: Call) -> int:
    """Gives namespaces back, each tried; prints the names of the released."""
    client = Client(call.host)
    failed = False
    for name in call.arguments:
        try:
            client.post(f"/cnm/v1/containers/{segment(name, 'container')}/release")
            sys.stdout.write(f"{name}\n")
        except ConnectionFailed:
            raise
        except CommandError as error:
            failed = True
            sys.stdout.flush()
            sys.stderr.write(f"{error}\n")
    return 1 if failed else 0


def ps(call: Call) -> int:
    """Lists containers, the newest first, as the daemon orders them."""
    last = 1 if call.switch("latest") else call.integer("last", -1)
    found = Client(call.host).get(
        "/containers/json",
        all="1" if call.switch("all") else None,
        limit=str(last) if last > 0 else None,
        filters=call.filters(),
    )
    containers = found if isinstance(found, list) else []
    rows = [_row(container, call.switch("no-trunc")) for container in containers]
    CONTAINERS.show(rows, call.string("format"), call.switch("quiet"))
    return 0


def _row(container: Mapping[str, object], whole: bool) -> Row:
    own_labels = _mapping(container.get("Labels"))
    settings = _mapping(container.get("NetworkSettings"))
    created = container.get("Created")
    seconds = created if isinstance(created, int) else 0
    bindings = container.get("Ports")
    found = container.get("Mounts")
    mounts = found if isinstance(found, list) else []
    fields = {
        "ID": short_id(str(container.get("Id") or ""), whole),
        "Names": _names(container.get("Names"), whole),
        "Image": _image(container, whole),
        "Command": _quoted_command(str(container.get("Command") or ""), whole),
        "CreatedAt": local_time(seconds),
        "RunningFor": age(max(time.time() - seconds, 0)) + " ago",
        "Ports": ports(bindings if isinstance(bindings, list) else None),
        "State": str(container.get("State") or ""),
        "Status": str(container.get("Status") or ""),
        "Labels": labels({key: str(value) for key, value in own_labels.items()}),
        "Mounts": ",".join(_mount(item, whole) for item in mounts),
        "LocalVolumes": str(sum(item.get("Driver") == "local" for item in mounts)),
        "Networks": ",".join(sorted(_mapping(settings.get("Networks")))),
    }
    return CONTAINERS.row(fields, {"Label": lambda name: str(own_labels.get(name, ""))})


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _names(value: object, whole: bool) -> str:
    """The names without their slash; those of links (``/other/alias``) only when whole."""
    names = [str(name).removeprefix("/") for name in value] if isinstance(value, list) else []
    return ",".join(name for name in names if whole or "/" not in name)


def _image(container: Mapping[str, object], whole: bool) -> str:
    """The image as it was named, or its id, shortened, if that was how."""
    name = str(container.get("Image") or "")
    own = str(container.get("ImageID") or "").removeprefix(_DIGEST)
    if not whole and own and short_id(own) == short_id(name.removeprefix(_DIGEST)):
        return short_id(own)
    return name or "<no image>"


def _mount(mount: Mapping[str, object], whole: bool) -> str:
    name = str(mount.get("Name") or mount.get("Source") or "")
    return name if whole else _cut(name, _MOUNT_WIDTH)


def _cut(text: str, width: int) -> str:
    return text[: width - 1] + "…" if len(text) > width else text


def _quoted_command(command: str, whole: bool) -> str:
    if not whole:
        command = _cut(command, _COMMAND_WIDTH)
    escaped = command.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


ADOPT = Command(
    adopt,
    "Make a network namespace a container that networks can be connected to",
    usage="[OPTIONS] NAME",
    flags=(
        Flag("netns", "string", "The namespace: a path, or a name of `ip netns`"),
        Flag("pid", "int", "The namespace of this process"),
        Flag("label", "list", "Label, key or key=value", check=label_problem),
    ),
    minimum=1,
    maximum=1,
    examples=("adopt c1 --netns /run/netns/c1", "adopt c2 --pid 4711"),
)
RELEASE = Command(
    release,
    "Disconnect adopted namespaces and give them back as they were",
    usage="NAME [NAME...]",
    minimum=1,
    maximum=None,
    names=("containers",),
    examples=("release c1",),
)
PS = Command(
    ps,
    "List containers",
    usage="[OPTIONS]",
    flags=(
        Flag("all", "bool", "Stopped ones too", short="a"),
        Flag("filter", "filter", 'Show only what matches, as "network=localnet"', short="f"),
        Flag("format", "string", FORMAT_HELP),
        Flag("last", "int", "The n last created, in any state", short="n", default="-1"),
        Flag("latest", "bool", "The last created, in any state", short="l"),
        Flag("no-trunc", "bool", "Do not shorten"),
        Flag("quiet", "bool", "Print ids only", short="q"),
    ),
    examples=("ps", "ps --filter network=localnet --format '{{.Names}} {{.Networks}}'"),
)
