"""Who is asked for a sandbox; a route stays the same while nothing has changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cnm.dns.hostservers import HostServers
from cnm.dns.place import SandboxPlace
from cnm.dns.routes import Routes
from cnm.runtime.kernel.visit import Home

A, B = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")


class Hosts:
    """Routes over a resolv.conf that the test writes; a second passes with each text."""

    def __init__(self, folder: Path, home: Home) -> None:
        self.path = folder / "resolv.conf"
        self.now = 0.0
        servers = HostServers(self.path, folder / "none", lambda: self.now)
        self.routes = Routes(servers, home, 53)

    def name(self, *servers: str) -> None:
        self.path.write_text("".join(f"nameserver {server}\n" for server in servers))
        self.now += 1


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with contextlib.closing(Home()) as home:
        yield Hosts(tmp_path, home)


@pytest.fixture
def places() -> Iterator[tuple[SandboxPlace, SandboxPlace]]:
    """Both are the host itself, which has a way out by definition."""
    descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    yield SandboxPlace("web", descriptor), SandboxPlace("db", descriptor)
    os.close(descriptor)


Places = tuple[SandboxPlace, SandboxPlace]


def test_named_servers_are_a_sandboxs_own(hosts: Hosts, places: Places) -> None:
    web, db = places
    route = hosts.routes.of(web, (A, B))
    assert [str(each) for each in route.upstreams] == ["192.0.2.1", "192.0.2.2"]
    assert not any(each.from_host for each in route.upstreams)
    assert route.place == web
    assert hosts.routes.of(web, (IPv4Address("192.0.2.1"), B)) is route
    assert hosts.routes.of(db, (A, B)) is not route
    assert hosts.routes.dropped == []


def test_what_is_replaced_is_handed_over_for_dropping(hosts: Hosts, places: Places) -> None:
    web, _ = places
    hosts.name("192.0.2.7")
    first = hosts.routes.of(web, (A,))
    second = hosts.routes.of(web, (B,))
    third = hosts.routes.of(web, ())
    hosts.name("192.0.2.8")
    fourth = hosts.routes.of(web, ())
    assert hosts.routes.dropped == [first, second, third]
    hosts.routes.forget(web)
    hosts.routes.forget(web)
    assert hosts.routes.dropped == [first, second, third, fourth]


def test_the_same_id_in_another_namespace_starts_anew(hosts: Hosts, places: Places) -> None:
    web, _ = places
    route = hosts.routes.of(web, (A,))
    assert hosts.routes.of(SandboxPlace("web", web.netns_fd + 1), (A,)) is not route
    assert hosts.routes.dropped == [route]


def test_the_hosts_servers_are_shared_if_all_are_asked_from_there(
    hosts: Hosts, places: Places
) -> None:
    web, db = places
    hosts.name("127.0.0.1", "fe80::1%lo")
    shared = hosts.routes.of(web, ())
    assert shared.place is None
    assert [each.from_host for each in shared.upstreams] == [True, True]
    assert hosts.routes.of(db, ()) is shared
    hosts.name("127.0.0.1", "192.0.2.1")
    mixed = hosts.routes.of(web, ())
    assert [each.from_host for each in mixed.upstreams] == [True, False]
    assert hosts.routes.of(db, ()) is not mixed
    assert hosts.routes.dropped == [shared]


def test_a_sandbox_that_is_gone_has_no_way_out(hosts: Hosts, places: Places) -> None:
    web, _ = places
    hosts.name("127.0.0.1", "192.0.2.1")
    gone = SandboxPlace("web", os.dup(web.netns_fd))
    os.close(gone.netns_fd)
    assert [str(each) for each in hosts.routes.of(gone, ()).upstreams] == ["192.0.2.1"]


def test_no_more_than_three_and_never_ourselves(hosts: Hosts, places: Places) -> None:
    web, _ = places
    servers = tuple(IPv4Address(f"192.0.2.{number}") for number in range(1, 6))
    route = hosts.routes.of(web, (IPv4Address("127.0.0.11"), *servers))
    assert [str(each) for each in route.upstreams] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    hosts.name(*map(str, servers))
    assert len(hosts.routes.of(web, ()).upstreams) == 3
