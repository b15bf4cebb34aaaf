"""``cnm events``."""

from __future__ import annotations

import re
import sys
import time

from cnm.cli.client import Client
from cnm.cli.command import Call, Command, Flag
from cnm.cli.errors import CommandError
from cnm.cli.format import INSPECT_FORMAT_HELP
from cnm.cli.shape import Shape
from cnm.cli.template import Template

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
_STAMP = re.compile(r"\d+(\.\d{1,9})?")
# Go's names of an event's fields that JSON writes small.
_NAMES = {"Scope": "scope", "Time": "time", "TimeNano": "timeNano", "Status": "status", "ID": "id"}
_EVENT = Shape(maps=frozenset({"Actor.Attributes"}), aliases=_NAMES)


def events(call: Call) -> int:
    """Prints events until the daemon, ``--until`` or Ctrl-C ends it."""
    form = call.string("format")
    template = Template("{{json .}}" if form == "json" else form) if form else None
    now = time.time()
    stream = Client(call.host).lines(
        "/events",
        since=timestamp(call.string("since"), now),
        until=timestamp(call.string("until"), now),
        filters=call.filters(),
    )
    for event in stream:
        text = template.render(_EVENT.apply(event)) if template else line(event)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    return 0


def line(event: object) -> str:
    """``<time> <type> <action> <id> (k=v, …)``, the time in the local zone."""
    if not isinstance(event, dict):
        raise CommandError(f"not an event: {event!r}")
    actor = event.get("Actor") or {}
    attributes = sorted((actor.get("Attributes") or {}).items())
    text = f"{_clock(event)} {event.get('Type')} {event.get('Action')} {actor.get('ID')}"
    if not attributes:
        return text
    return text + " (" + ", ".join(f"{key}={value}" for key, value in attributes) + ")"


def _clock(event: dict[str, object]) -> str:
    """RFC 3339 with nine digits, from nanoseconds."""
    nanoseconds = event.get("timeNano")
    if not isinstance(nanoseconds, int):
        seconds = event.get("time")
        nanoseconds = seconds * 10**9 if isinstance(seconds, int) else 0
    moment = time.localtime(nanoseconds // 10**9)
    zone = time.strftime("%z", moment)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + f".{nanoseconds % 10**9:09d}{zone}"


def timestamp(text: str, now: float) -> str | None:
    """What the API takes for a time: seconds since 1970.

    ``text`` is such a number, a duration back from ``now`` (``1h30m``), or a date of
    RFC 3339, whole or cut short, local unless it names a zone; None for an empty one.

    :raises CommandError: for anything else.
    """
    if not text:
        return None
    if _STAMP.fullmatch(text):
        return text
    if _DURATION.fullmatch(text):
        back = sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))
        return f"{now - back:.9f}"
    from datetime import datetime

    try:
        return f"{datetime.fromisoformat(text).timestamp():.9f}"
    except ValueError:
        problem = f'failed to parse value as time or duration: "{text}"'
        raise CommandError(problem) from None


EVENTS = Command(
    events,
    "Print events of the daemon as they happen",
    usage="[OPTIONS]",
    flags=(
        Flag("filter", "filter", 'Show only what matches, as "type=network"', short="f"),
        Flag("format", "string", INSPECT_FORMAT_HELP),
        Flag("since", "string", "Past events too, from this time or so long ago"),
        Flag("until", "string", "End at this time"),
    ),
    examples=(
        "events",
        "events --since 10m --until 0s",
        "events --filter type=network --format '{{.Action}} {{.Actor.Attributes.name}}'",
    ),
)
