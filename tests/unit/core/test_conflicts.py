"""A route that arrives later on one of our subnets is told, with both names."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from cnm.hostapi import HostRoute
from cnm.types import IpamConfig, NetworkRequest


@pytest.fixture
def blue(world: Any) -> Any:
    """One network, 10.1.0.0/24."""
    config = (IpamConfig(ipaddress.ip_network("10.1.0.0/24")),)
    return world.core.networks.create(NetworkRequest("blue", ipam_config=config))


def route(destination: str, device: str = "tun0") -> HostRoute:
    return HostRoute(ipaddress.ip_network(destination), device)


@pytest.mark.parametrize("destination", ["10.0.0.0/8", "10.1.0.128/25", "10.1.0.0/24"])
def test_warning_event_names_both(
    world: Any, blue: Any, caplog: pytest.LogCaptureFixture, destination: str
) -> None:
    events = world.core.events.subscribe()
    world.core.conflicts.route_added(route(destination))
    event = events.get(0.0)
    assert (event.type, event.action, event.actor_id) == ("network", "conflict", blue.id)
    assert event.attributes["name"] == "blue"
    assert event.attributes["route"] == f"{destination} dev tun0"
    assert "blue" in caplog.text
    assert f"{destination} dev tun0" in caplog.text


@pytest.mark.parametrize("destination", ["10.2.0.0/24", "0.0.0.0/1", "fd00::/8"])
def test_no_conflict(world: Any, blue: Any, destination: str) -> None:
    events = world.core.events.subscribe()
    world.core.conflicts.route_added(route(destination))
    assert events.get(0.0) is None


def test_own_route_is_no_conflict(world: Any, blue: Any) -> None:
    events = world.core.events.subscribe()
    world.core.conflicts.route_added(route("10.1.0.0/24", f"br-{blue.id[:12]}"))
    assert events.get(0.0) is None
    world.kernel.routes = [route("10.1.0.0/24", f"br-{blue.id[:12]}"), route("10.1.0.0/16")]
    assert [str(found) for _, found in world.core.conflicts.present()] == ["10.1.0.0/16 dev tun0"]
