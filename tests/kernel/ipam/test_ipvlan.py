"""Containers that share the parent's MAC: leases and probes beside ipvlan on the parent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ipaddress import IPv6Network, ip_address

import pytest
from kernel.ipam.lan import SERVER, Dnsmasq
from kernel.namespaces import Namespace, NamespaceFactory, poll

from cnm.ipam import dhcp
from cnm.ipam.memory import MemoryLeases
from cnm.ipamapi import (
    ENDPOINT_LINK,
    ENDPOINT_MAC,
    ENDPOINT_SHARES_MAC,
    IpamContext,
    PoolRequest,
)
from cnm.runtime.kernel.probe import WireProber
from cnm.store import SqliteStore
from cnm.types import IPAddress

pytestmark = [pytest.mark.kernel, pytest.mark.needs("ipvlan")]

SHORT = ("--dhcp-range=10.8.0.50,10.8.0.99,255.255.255.0,2m", "--dhcp-option=option:T1,5")


@pytest.fixture
def prober() -> Iterator[WireProber]:
    with contextlib.closing(WireProber()) as made:
        yield made


def test_a_lease_is_given_and_renewed_and_no_conflict_is_seen_in_it(
    host_ns: Namespace,
    make_ns: NamespaceFactory,
    server: Dnsmasq,
    store: SqliteStore,
    prober: WireProber,
) -> None:
    server.start(*SHORT)
    context = IpamContext(MemoryLeases(), IPv6Network("fd00::/48"), notes=store.notes)
    conflicts: list[tuple[str, IPAddress, str]] = []
    prober.watch(lambda link, address, mac: conflicts.append((link, address, mac)))
    with contextlib.closing(dhcp.create(context)) as driver:
        driver.begin(lambda change: None)
        pool_id = driver.request_pool(PoolRequest(dhcp.SPACE)).pool_id
        options = {
            ENDPOINT_MAC: "02:00:00:00:0d:01",
            ENDPOINT_LINK: "eth0",
            ENDPOINT_SHARES_MAC: "true",
        }
        leased = driver.request_address(pool_id, None, options)
        assert prober.holders("eth0", [leased.ip, ip_address(SERVER)]).keys() == {
            ip_address(SERVER)
        }
        box = make_ns("box")
        host_ns.sh(
            f"link add i0 link eth0 type ipvlan mode l2;link set i0 netns {box.name} name eth0"
        )
        prober.guard(lambda: {"eth0": {leased.ip: ""}})
        box.sh(f"link set eth0 up; addr add {leased} dev eth0")
        assert box.pings(SERVER)
        server.said("DHCPACK", 3)
        assert conflicts == []
        driver.release_address(pool_id, leased.ip)
        poll(lambda: server.leases() == {}, "the lease to be gone", 30)
