"""Which events pass a stream's filters, and how a line of the stream looks."""

from __future__ import annotations

import json

import pytest

from cnm.core.events import Event
from cnm.engine.events import line, passes
from cnm.engine.filters import Filters
from cnm.engine.versions import ApiVersion

CONNECT = Event(
    "network", "connect", "abcdef0123", {"name": "blue", "container": "c0ffee", "type": "bridge"}, 7
)
EXEC = Event("container", "exec_start: true", "c0ffee", {"name": "c1", "role": "db"}, 8)


@pytest.mark.parametrize(
    ("event", "filters", "passed"),
    [
        (CONNECT, {}, True),
        (CONNECT, {"type": ["network"]}, True),
        (CONNECT, {"type": ["container"]}, False),
        (CONNECT, {"type": ["container", "network"]}, True),
        (CONNECT, {"event": ["connect"]}, True),
        (CONNECT, {"event": ["disconnect"]}, False),
        (CONNECT, {"network": ["blue"]}, True),
        (CONNECT, {"network": ["abcdef"]}, True),
        (CONNECT, {"network": ["red"]}, False),
        (CONNECT, {"scope": ["swarm"]}, False),
        (EXEC, {"event": ["exec_start"]}, True),
        (EXEC, {"container": ["c1"], "label": ["role=db"]}, True),
        (EXEC, {"label": ["role=web"]}, False),
    ],
)
def test_filters(event: Event, filters: dict[str, list[str]], passed: bool) -> None:
    assert passes(event, Filters.parse(json.dumps(filters))) is passed


def test_a_line() -> None:
    event = Event("network", "create", "ab", {"name": "blue"}, 1_795_476_424_381_364_046)
    assert json.loads(line(event, ApiVersion(1, 51))) == {
        "Type": "network",
        "Action": "create",
        "Actor": {"ID": "ab", "Attributes": {"name": "blue"}},
        "scope": "local",
        "time": 1795476424,
        "timeNano": 1795476424381364046,
    }
