"""Fixtures: a host that drivers work on, and places to stand for sandboxes and peers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kernel.drivers.lab import Host, Place, PlaceFactory
from kernel.drivers.world import World
from kernel.namespaces import Namespace, NamespaceFactory


@pytest.fixture
def host(host_ns: Namespace) -> Iterator[Host]:
    """The test's own thread is in it."""
    made = Host(host_ns)
    yield made
    made.close()


@pytest.fixture
def make_place(make_ns: NamespaceFactory) -> PlaceFactory:
    """New places; all gone after the test."""
    return lambda: Place(make_ns("place"))


@pytest.fixture
def world(host: Host, make_place: PlaceFactory) -> World:
    return World(host, make_place)


@pytest.fixture(params=["1", "0"], ids=["br_netfilter", "plain bridge"])
def bridge_filter(request: pytest.FixtureRequest, host: Host) -> None:
    keys = ("iptables", "ip6tables")
    settings = " ".join(f"net.bridge.bridge-nf-call-{key}={request.param}" for key in keys)
    host.sh(f"sysctl -qw {settings}")
