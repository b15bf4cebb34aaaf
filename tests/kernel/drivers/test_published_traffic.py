"""Real packets to published ports: every way to reach one, and whom the server then sees.

On the host's side of ``up0`` is a peer that stands for the LAN. In each test both protocols of
both families are meant; with and without br_netfilter, which bridges what it has translated.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from kernel.drivers.exchange import Server, serving
from kernel.drivers.lab import Place, network
from kernel.drivers.world import BOTH, HOST, PEER, World, address

from cnm.types import IPAddress, NetworkSpec, PortBinding

filtered = pytest.mark.usefixtures("bridge_filter")
BY = pytest.mark.parametrize("protocol", ["tcp", "udp"])
PORT = 5005
INSIDE = 80
LOOPBACK = {4: "127.0.0.1", 6: "::1"}


class Web:
    """A container that publishes a port."""

    def __init__(
        self,
        world: World,
        protocol: str,
        *,
        options: dict[str, str] | None = None,
        spec: NetworkSpec | None = None,
        host_ip: IPAddress | None = None,
        port: int = PORT,
        number: int = 2,
    ) -> None:
        self.world = world
        self.spec = spec or world.network(1, options=options)
        self.attached = world.attach(self.spec, number)
        wanted = [PortBinding(protocol, INSIDE, host_ip, port)]
        self.bindings = world.driver.program_external_connectivity(
            self.spec.id, self.attached.endpoint_id, wanted
        )
        self.server = Server(self.attached.sandbox, protocol, INSIDE)

    def close(self) -> None:
        self.server.close()

    def sees(self, client: Place, target: str, port: int = PORT) -> str | None:
        """Whom it sees when that client asks, which must work."""
        return self.server.seen_from(client, target, port, expected=True)

    def is_hidden(self, client: Place, target: str, port: int = PORT) -> bool:
        return self.server.seen_from(client, target, port, expected=False) is None


def gateway(version: int) -> str:
    return {4: "10.1.0.1", 6: "fd1::1"}[version]


@pytest.fixture
def web(world: World, protocol: str) -> Iterator[Web]:
    """Published on all addresses, dual-stack."""
    made = Web(world, protocol)
    yield made
    made.close()


@BOTH
@BY
@filtered
def test_from_outside(version: int, protocol: str, web: Web) -> None:
    """moby#44408: the client's own address, of IPv6 too."""
    assert web.sees(web.world.peer, HOST[version]) == PEER[version]


@BOTH
@BY
@filtered
def test_from_the_host_by_its_address(version: int, protocol: str, web: Web) -> None:
    assert web.sees(web.world.host, HOST[version]) == HOST[version]


@BOTH
@BY
@filtered
def test_from_the_host_by_loopback(version: int, protocol: str, web: Web) -> None:
    """Nobody could answer 127.0.0.1; ``::1`` is served by the helper."""
    assert web.sees(web.world.host, LOOPBACK[version]) == gateway(version)


@BOTH
@BY
@filtered
def test_from_another_network(version: int, protocol: str, web: Web) -> None:
    other = web.world.attach(web.world.network(2), 7)
    assert web.sees(other.sandbox, HOST[version]) == address(other, version)
    assert web.is_hidden(other.sandbox, address(web.attached, version), INSIDE)


@BOTH
@BY
@filtered
def test_from_a_neighbour(version: int, protocol: str, web: Web) -> None:
    """Its answer would go past the host: so the host asks for it."""
    other = web.world.attach(web.spec, 7)
    assert web.sees(other.sandbox, HOST[version]) == gateway(version)
    assert web.sees(other.sandbox, gateway(version)) == gateway(version)
    direct = web.sees(other.sandbox, address(web.attached, version), INSIDE)
    assert direct == address(other, version)


@BOTH
@BY
@filtered
def test_from_itself(version: int, protocol: str, web: Web) -> None:
    assert web.sees(web.attached.sandbox, HOST[version]) == gateway(version)


@BOTH
@BY
def test_the_containers_address_stays_hidden(version: int, protocol: str, web: Web) -> None:
    """A LAN that knows the way to the subnet (moby#45610)."""
    assert web.is_hidden(web.world.peer, address(web.attached, version), INSIDE)
    assert web.is_hidden(web.world.peer, address(web.attached, version), PORT)


@BY
def test_ipv6_clients_of_an_ipv4_container(protocol: str, world: World) -> None:
    """By the helper: the kernel cannot."""
    spec = network("10.1.0.1/24")
    world.driver.create_network(spec)
    web = Web(world, protocol, spec=spec)
    try:
        found = [(str(item.host_ip), item.host_port) for item in web.bindings]
        assert found == [("0.0.0.0", PORT), ("::", PORT)]
        assert web.sees(world.peer, HOST[6]) == "10.1.0.1"
        assert web.sees(world.host, "::1") == "10.1.0.1"
        assert web.sees(world.host, HOST[6]) == "10.1.0.1"
        assert web.sees(world.peer, HOST[4]) == PEER[4]
    finally:
        web.close()


@BY
def test_an_ipv6_container(protocol: str, world: World) -> None:
    spec = network("fd1::1/64")
    world.driver.create_network(spec)
    web = Web(world, protocol, spec=spec)
    try:
        assert [str(item.host_ip) for item in web.bindings] == ["::"]
        assert web.sees(world.peer, HOST[6]) == PEER[6]
        assert web.is_hidden(world.peer, HOST[4])
    finally:
        web.close()


@BY
def test_link_local_clients(protocol: str, web: Web) -> None:
    """A container could not answer an address of another link."""
    (device,) = web.world.host.ip("-6 addr show dev up0")
    local = next(info["local"] for info in device["addr_info"] if info["scope"] == "link")
    assert web.sees(web.world.peer, f"{local}%eth0") == gateway(6)


@BY
def test_published_on_loopback_is_for_this_host_alone(protocol: str, world: World) -> None:
    """moby#41872, CVE-2020-8558, CVE-2025-54388: also where the LAN routes 127/8 here."""
    web = Web(world, protocol, host_ip=ip_address("127.0.0.1"))
    try:
        assert [str(item.host_ip) for item in web.bindings] == ["127.0.0.1"]
        assert web.sees(world.host, "127.0.0.1") == gateway(4)
        neighbour = world.attach(web.spec, 7)
        for place, via in ((world.peer, HOST[4]), (neighbour.sandbox, gateway(4))):
            have_loopback_elsewhere(place, via)
            assert web.is_hidden(place, "127.0.0.1")
            assert web.is_hidden(place, HOST[4])
        world.host.sh("sysctl -qw net.ipv4.conf.up0.route_localnet=1")
        assert web.is_hidden(world.peer, "127.0.0.1")
        world.host.sh("nft flush ruleset")
        world.driver.restore_rules(web.spec.id)
        assert web.is_hidden(world.peer, "127.0.0.1")
        assert web.sees(world.host, "127.0.0.1") == gateway(4)
        world.host.sh("nft flush chain inet cnm-bridge loopback")
        assert web.sees(world.peer, "127.0.0.1") == PEER[4]  # only the rule kept it out
    finally:
        web.close()


def test_loopback_services_of_the_host_stay_its_own(world: World) -> None:
    """``route_localnet`` on a bridge must not let containers in (CVE-2020-8558)."""
    web = Web(world, "tcp")
    inside = web.attached.sandbox
    try:
        have_loopback_elsewhere(inside, "10.1.0.1")
        with serving(world.host, "tcp", 999) as own:
            assert own.seen_from(inside, "127.0.0.1", 999, expected=False) is None
            assert own.seen_from(inside, "10.1.0.1", 999, expected=True) == "10.1.0.2"
            world.host.sh("nft flush chain inet cnm-bridge loopback")
            assert own.seen_from(inside, "127.0.0.1", 999, expected=True) == "10.1.0.2"
    finally:
        web.close()


@BOTH
@BY
def test_only_the_address_that_is_named(version: int, protocol: str, world: World) -> None:
    second = {4: "192.0.2.99", 6: "2001:db8::99"}[version]
    length = {4: 24, 6: 64}[version]
    nodad = " nodad" if version == 6 else ""
    world.host.sh(f"ip addr add {second}/{length} dev up0{nodad}")
    web = Web(world, protocol, host_ip=ip_address(second))
    try:
        assert web.sees(world.peer, second) == PEER[version]
        assert web.sees(world.host, second) is not None
        assert web.is_hidden(world.peer, HOST[version])
        assert web.is_hidden(world.host, LOOPBACK[version])
    finally:
        web.close()


@BOTH
@BY
def test_traffic_through_the_host_is_not_taken(version: int, protocol: str, world: World) -> None:
    """GHSA-jv3w-x3r3-g6rm: a port that is published is not everybody's port."""
    far = {4: "198.51.100.2", 6: "2001:db8:1::2"}
    beyond = world.add_peer("up1", far, {4: "198.51.100.1", 6: "2001:db8:1::1"})
    world.host.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    web = Web(world, protocol)
    client = world.attach(web.spec, 7)
    try:
        with serving(beyond, protocol, PORT) as own:
            target = far[version]
            assert own.seen_from(world.peer, target, PORT, expected=True) == PEER[version]
            seen = own.seen_from(client.sandbox, target, PORT, expected=True)
            assert seen == {4: "198.51.100.1", 6: "2001:db8:1::1"}[version]
    finally:
        web.close()


@BOTH
@BY
def test_routed(version: int, protocol: str, world: World) -> None:
    """No port of the host; the container's own is open, and no other."""
    mode = {f"bridge.gateway_mode_ipv{family}": "routed" for family in (4, 6)}
    web = Web(world, protocol, options=mode)
    other = world.attach(world.network(2), 7)
    try:
        assert [(str(item.host_ip), item.host_port) for item in web.bindings] == [
            ("0.0.0.0", 0),
            ("::", 0),
        ]
        assert web.sees(world.peer, address(web.attached, version), INSIDE) == PEER[version]
        seen = web.sees(other.sandbox, address(web.attached, version), INSIDE)
        assert seen == address(other, version)
        assert web.is_hidden(world.peer, HOST[version])
        with serving(web.attached.sandbox, protocol, 81) as closed:
            target = address(web.attached, version)
            assert closed.seen_from(world.peer, target, 81, expected=False) is None
    finally:
        web.close()


@BOTH
def test_unprotected(version: int, world: World) -> None:
    mode = {f"bridge.gateway_mode_ipv{family}": "nat-unprotected" for family in (4, 6)}
    web = Web(world, "tcp", options=mode)
    try:
        assert web.sees(world.peer, HOST[version]) == PEER[version]
        assert web.sees(world.peer, address(web.attached, version), INSIDE) == PEER[version]
    finally:
        web.close()


@BOTH
def test_trusted_interfaces_reach_published_ports_directly(version: int, world: World) -> None:
    web = Web(world, "tcp", options={"bridge.trusted_host_interfaces": "up0"})
    try:
        assert web.sees(world.peer, address(web.attached, version), INSIDE) == PEER[version]
        with serving(web.attached.sandbox, "tcp", 81) as closed:
            target = address(web.attached, version)
            assert closed.seen_from(world.peer, target, 81, expected=False) is None
    finally:
        web.close()


@BOTH
@BY
@filtered
def test_with_icc_off(version: int, protocol: str, world: World) -> None:
    """What is published is so for neighbours too, and for the container itself; nothing else is."""
    web = Web(world, protocol, options={"bridge.enable_icc": "false"})
    other = world.attach(web.spec, 7)
    try:
        assert web.sees(other.sandbox, HOST[version]) == gateway(version)
        assert web.sees(web.attached.sandbox, HOST[version]) == gateway(version)
        assert web.sees(world.peer, HOST[version]) == PEER[version]
        assert web.is_hidden(other.sandbox, address(web.attached, version), INSIDE)
    finally:
        web.close()


def test_internal_networks_publish_nothing(world: World) -> None:
    web = Web(world, "tcp", spec=world.network(1, internal=True))
    try:
        assert web.bindings == ()
        assert web.is_hidden(world.peer, HOST[4])
        assert world.host.port_helper() is None
    finally:
        web.close()


@BOTH
@BY
def test_on_a_bridge_of_somebody_elses(version: int, protocol: str, world: World) -> None:
    world.host.sh("ip link add lan type bridge; ip link set lan up")
    web = Web(world, protocol, options={"bridge.name": "lan"})
    try:
        assert web.sees(world.peer, HOST[version]) == PEER[version]
        assert web.sees(world.host, LOOPBACK[version]) == gateway(version)
        assert web.sees(web.attached.sandbox, HOST[version]) == gateway(version)
        world.driver.delete_network(web.spec.id)
        assert world.host.sh("sysctl -n net.ipv4.conf.lan.route_localnet").strip() == "0"
    finally:
        web.close()


@BOTH
@BY
def test_a_range(version: int, protocol: str, world: World) -> None:
    """One element, and each port is itself."""
    spec = world.network(1)
    one = world.attach(spec, 2)
    wanted = [PortBinding(protocol, port, None, port) for port in range(6000, 6100)]
    world.driver.program_external_connectivity(spec.id, one.endpoint_id, wanted)
    for port in (6000, 6042, 6099):
        with serving(one.sandbox, protocol, port) as server:
            assert server.seen_from(world.peer, HOST[version], port, expected=True) == PEER[version]
    assert f"{protocol} . 6000-6099" in world.host.sh("nft list table inet cnm-bridge")
    world.driver.program_external_connectivity(
        spec.id, one.endpoint_id, [item for item in wanted if item.host_port != 6042]
    )
    with serving(one.sandbox, protocol, 6042) as server:
        assert server.seen_from(world.peer, HOST[version], 6042, expected=False) is None
    with serving(one.sandbox, protocol, 6043) as server:
        assert server.seen_from(world.peer, HOST[version], 6043, expected=True) == PEER[version]


def have_loopback_elsewhere(place: Place, via: str) -> None:
    """What is sent to 127.0.0.0/8 there leaves by a router, from an address of the link."""
    own = place.ip("-4 addr show dev eth0")[0]["addr_info"][0]["local"]
    place.sh("sysctl -qw net.ipv4.conf.all.route_localnet=1")
    place.sh("ip addr del 127.0.0.1/8 dev lo")
    place.sh(f"ip route add 127.0.0.0/8 via {via} dev eth0 src {own}")
