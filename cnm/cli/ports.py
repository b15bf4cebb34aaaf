"""``net publish|unpublish``: ports of containers that exist."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from cnm.cli.client import Client, segment
from cnm.cli.command import Call, Command
from cnm.cli.format import natural
from cnm.cli.publish import Bindings, bound, published


def publish(call: Call) -> int:
    """Publishes ports, and prints where these are published now."""
    name, *specifications = call.arguments
    wanted = published(specifications)
    ports = _change(call.host, name, "publish", wanted)
    lines = [line for port in wanted for line in bound(port, ports.get(port))]
    sys.stdout.write("".join(f"{line}\n" for line in sorted(lines, key=natural)))
    waiting = [port for port in wanted if not ports.get(port)]
    if waiting:
        sys.stderr.write(
            f"{', '.join(waiting)}: published when {name} runs on a network that is not internal\n"
        )
    return 0


def unpublish(call: Call) -> int:
    """Takes ports back: all, if none is named."""
    name, *specifications = call.arguments
    _change(call.host, name, "unpublish", published(specifications) if specifications else None)
    return 0


def _change(
    host: str, name: str, verb: str, wanted: Bindings | None
) -> Mapping[str, Sequence[Mapping[str, str]]]:
    """Ports of the container afterwards."""
    path = f"/cnm/v1/containers/{segment(name, 'container')}/{verb}"
    answer = Client(host).post(path, {"PortBindings": wanted})
    ports = answer.get("Ports") if isinstance(answer, dict) else None
    return ports if isinstance(ports, dict) else {}


PUBLISH = Command(
    publish,
    "Publish ports of a container, while it runs and at each later start",
    usage="CONTAINER [[ADDRESS:]PORT:]PORT[/PROTOCOL]...",
    minimum=2,
    maximum=None,
    names=("containers", ""),
    examples=(
        "publish web 5005:80",
        "publish web 127.0.0.1:5006:80 53:53/udp 8000-8010:9000-9010",
    ),
)
UNPUBLISH = Command(
    unpublish,
    "Take published ports of a container back: these, or all",
    usage="CONTAINER [[[ADDRESS:]PORT:]PORT[/PROTOCOL]...]",
    minimum=1,
    maximum=None,
    names=("containers", ""),
    examples=("unpublish web 80", "unpublish web 127.0.0.1:5006:80", "unpublish web"),
)
