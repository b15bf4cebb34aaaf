"""``net dns``: what the embedded resolver is asked, and what it counts."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Mapping

from cnm.cli.client import Client
from cnm.cli.command import Call, Command, Flag
from cnm.cli.errors import CommandError
from cnm.cli.format import align

_COLUMNS = (
    ("QUERIES", "queries"),
    ("ANSWERED", "answered"),
    ("NODATA", "nodata"),
    ("FORWARDED", "forwarded"),
    ("REFUSED", "refused"),
    ("MALFORMED", "malformed"),
    ("SERVFAIL", "unavailable"),
    ("DROPPED", "dropped"),
)


def log(call: Call) -> int:
    """Prints queries as they are answered, until the daemon, ``--for`` or Ctrl-C ends it."""
    container = call.arguments[0] if call.arguments else ""
    seconds = call.string("for")
    stream = Client(call.host).lines(
        "/cnm/v1/dns/log", container=container or None, seconds=seconds or None
    )
    with contextlib.suppress(KeyboardInterrupt):
        for query in stream:
            text = json.dumps(query) if call.switch("json") else line(query)
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
    return 0


def line(query: object) -> str:
    """``<time> <container> <name> <type>: <code> <answers> (<ms>, <who answered>)``."""
    if not isinstance(query, dict):
        raise CommandError(f"not a query: {query!r}")
    moment = time.localtime(query["time"])
    clock = time.strftime("%Y-%m-%dT%H:%M:%S", moment) + f".{int(query['time'] % 1 * 1000):03d}"
    answers = " ".join(query["answers"])
    return (
        f"{clock} {query['container_name']} {query['name']} {query['type']}: {query['code']}"
        f"{' ' if answers else ''}{answers} ({query['took_ms']:.2f} ms, {query['from']})"
    )


def stats(call: Call) -> int:
    """Prints what was asked and answered, for each container and in all."""
    found = Client(call.host).get("/cnm/v1/dns/statistics")
    if not isinstance(found, dict):
        raise CommandError("the daemon's answer has no statistics")
    if call.switch("json"):
        sys.stdout.write(f"{json.dumps(found, indent=4)}\n")
        return 0
    containers: Mapping[str, Mapping[str, object]] = found.get("containers") or {}
    rows = ["CONTAINER\t" + "\t".join(name for name, _ in _COLUMNS)]
    named = sorted(containers.values(), key=lambda item: str(item["name"]))
    rows += [_row(str(item["name"]), item) for item in named]
    if "total" in found:
        rows.append(_row("(all)", found["total"]))
    sys.stdout.write(align("\n".join(rows)) + "\n")
    return 0


def _row(name: str, counters: Mapping[str, object]) -> str:
    return "\t".join([name, *(str(counters.get(key, 0)) for _, key in _COLUMNS)])


def _seconds(text: str) -> str:
    return "" if re.fullmatch(r"\d+(\.\d+)?", text) else f'"{text}" is no number of seconds'


LOG = Command(
    log,
    "Show what containers ask the embedded resolver, as it is answered",
    usage="[OPTIONS] [CONTAINER]",
    maximum=1,
    names=("containers",),
    flags=(
        Flag("for", "string", "End after so many seconds", check=_seconds),
        Flag("json", "bool", "A JSON object a line"),
    ),
    examples=("dns log", "dns log web --for 10", "dns log --json | jq .name"),
)
STATS = Command(
    stats,
    "Show what the embedded resolver has answered, by container",
    usage="[OPTIONS]",
    flags=(Flag("json", "bool", "All counters, latency and forwarding too, as JSON"),),
    examples=("dns stats", "dns stats --json"),
)
