"""A host between its containers and a peer that knows the way to them."""

from __future__ import annotations

import pytest
from kernel.drivers.lab import Attached, Host, Place, PlaceFactory, attach, network

from cnm.types import NetworkSpec

PEER = {4: "192.0.2.2", 6: "2001:db8::2"}
HOST = {4: "192.0.2.1", 6: "2001:db8::1"}
BOTH = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])


class World:
    """The host between its containers and a peer."""

    def __init__(self, host: Host, make_place: PlaceFactory) -> None:
        self.host = host
        self.make_place = make_place
        self.driver = host.bridge()
        self.peer = self.add_peer("up0", PEER, HOST)

    def add_peer(self, device: str, there: dict[int, str], here: dict[int, str]) -> Place:
        """A place behind a device of the host; it routes everything to the host."""
        peer = self.make_place()
        self.host.sh(
            f"ip link add {device} type veth peer name eth0 netns {peer.namespace.name};"
            f"sysctl -qw net.ipv6.conf.{device}.accept_dad=0;"
            f"ip addr add {here[4]}/24 dev {device}; ip addr add {here[6]}/64 dev {device} nodad;"
            f"ip link set {device} up"
        )
        peer.sh(
            "sysctl -qw net.ipv6.conf.eth0.accept_dad=0;"
            f"ip addr add {there[4]}/24 dev eth0; ip addr add {there[6]}/64 dev eth0 nodad;"
            f"ip link set eth0 up; ip route add default via {here[4]};"
            f"ip route add default via {here[6]}"
        )
        return peer

    def network(
        self, number: int, *, options: dict[str, str] | None = None, internal: bool = False
    ) -> NetworkSpec:
        """A dual-stack network."""
        pools = f"10.{number}.0.1/24", f"fd{number}::1/64"
        spec = network(*pools, options=options, internal=internal)
        self.driver.create_network(spec)
        return spec

    def attach(self, spec: NetworkSpec, number: int) -> Attached:
        """A container with that number in the network's subnets."""
        addresses = []
        for pool in (*spec.ipv4, *spec.ipv6):
            addresses.append(f"{pool.pool.network_address + number}/{pool.pool.prefixlen}")
        return attach(self.driver, spec, self.make_place(), *addresses)


def address(attached: Attached, version: int) -> str:
    interface = attached.interface
    found = interface.address if version == 4 else interface.address_ipv6
    assert found is not None
    return str(found.ip)
