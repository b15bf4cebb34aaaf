"""``cnm logs|top|port``: what a container says, runs and publishes."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from cnm.cli.client import Client, segment
from cnm.cli.command import Call, Command, Flag
from cnm.cli.errors import CommandError
from cnm.cli.format import align, natural
from cnm.cli.frames import STDERR, Demultiplexer
from cnm.cli.publish import bound, port_number, shown

_TOP_WIDTH = 20  # columns of `top` are wider than those of listings, in Docker too


def logs(call: Call) -> int:
    """Prints a container's output, each stream to its own."""
    client = Client(call.host)
    document = _inspect(client, call.arguments[0])
    config = document.get("Config")
    response = client.open(
        "GET",
        f"/containers/{segment(str(document.get('Id')), 'container')}/logs",
        stdout="1",
        stderr="1",
        tail=call.string("tail", "all"),
        follow="1" if call.switch("follow") else None,
        timestamps="1" if call.switch("timestamps") else None,
        since=_moment(call, "since"),
        until=_moment(call, "until"),
    )
    tty = isinstance(config, dict) and bool(config.get("Tty"))
    frames = None if tty else Demultiplexer()
    for piece in client.pieces(response):
        for stream, content in frames.feed(piece) if frames else ((0, piece),):
            out = sys.stderr if stream == STDERR else sys.stdout
            out.buffer.write(content)
            out.buffer.flush()
    return 0


def _moment(call: Call, flag: str) -> str | None:
    if not call.string(flag):
        return None
    from cnm.cli.events import timestamp

    try:
        return timestamp(call.string(flag), time.time())
    except CommandError as error:
        raise CommandError(f'invalid value for "{flag}": {error}') from None


def _inspect(client: Client, name: str) -> Mapping[str, object]:
    found = client.get(f"/containers/{segment(name, 'container')}/json")
    return found if isinstance(found, dict) else {}


def top(call: Call) -> int:
    """Prints the processes of a container, in columns as ``ps`` gives them."""
    name, *options = call.arguments
    found = Client(call.host).get(
        f"/containers/{segment(name, 'container')}/top", ps_args=" ".join(options) or None
    )
    table = found if isinstance(found, dict) else {}
    lines = [table.get("Titles") or [], *(table.get("Processes") or [])]
    text = "".join("\t".join(line) + "\n" for line in lines)
    sys.stdout.write(align(text, _TOP_WIDTH))
    return 0


def port(call: Call) -> int:
    """Prints where ports of a container are published."""
    document = _inspect(Client(call.host), call.arguments[0])
    settings = document.get("NetworkSettings")
    ports = (settings.get("Ports") if isinstance(settings, dict) else None) or {}
    lines: list[str] = []
    if len(call.arguments) > 1:
        lines = _of_one(ports, call.arguments[0], call.arguments[1])
    else:
        for private, bindings in ports.items():
            lines += bound(private, bindings)
    sys.stdout.write("".join(f"{line}\n" for line in sorted(lines, key=natural)))
    return 0


def _of_one(ports: Mapping[str, list[Mapping[str, str]]], name: str, wanted: str) -> list[str]:
    number, _, protocol = wanted.partition("/")
    try:
        port_number(number)
    except CommandError as error:
        raise CommandError(f"Error: invalid port ({number}): {error}") from None
    bindings = ports.get(f"{number}/{protocol or 'tcp'}")
    if not bindings:
        raise CommandError(f"Error: No public port '{wanted}' published for {name}")
    return [shown(binding) for binding in bindings]


LOGS = Command(
    logs,
    "Fetch the logs of a container",
    usage="[OPTIONS] CONTAINER",
    flags=(
        Flag("follow", "bool", "Go on with what it says from now on", short="f"),
        Flag("since", "string", "Only from this time, as 2013-01-02T13:23:37Z, or 42m ago"),
        Flag("tail", "string", "Only so many of the last lines", short="n", default="all"),
        Flag("timestamps", "bool", "Show when it was said", short="t"),
        Flag("until", "string", "Only before this time, as 2013-01-02T13:23:37Z, or 42m ago"),
    ),
    minimum=1,
    maximum=1,
    names=("containers",),
    examples=("logs c1", "logs -f --tail 10 c1", "logs --since 5m -t c1"),
)
TOP = Command(
    top,
    "Display the running processes of a container",
    usage="CONTAINER [ps OPTIONS]",
    minimum=1,
    maximum=None,
    names=("containers", ""),
    interspersed=False,
    examples=("top c1", "top c1 -o pid,args"),
)
PORT = Command(
    port,
    "List the published ports of a container, or where one of them is",
    usage="CONTAINER [PRIVATE_PORT[/PROTO]]",
    minimum=1,
    maximum=2,
    names=("containers", ""),
    examples=("port web", "port web 80/tcp"),
)
