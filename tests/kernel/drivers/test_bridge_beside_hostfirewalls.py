"""Beside a real firewalld and a real ufw, as installed: real packets, both families.

The host's own LAN interface is in firewalld's default zone; ufw denies what comes in. Both drop
by default what is routed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import pytest
from kernel.drivers.exchange import serving
from kernel.drivers.lab import Place, network
from kernel.drivers.packets import is_silent
from kernel.drivers.test_published_traffic import (
    BY,
    INSIDE,
    LOOPBACK,
    PORT,
    Web,
    gateway,
    have_loopback_elsewhere,
)
from kernel.drivers.world import HOST, PEER, World, address
from nftables import Nftables
from patience import patient
from peers.hostfirewalls import Firewalld, HostFirewall, Ufw

from cnm.drivers.bridge.firewall import NetworkPolicy
from cnm.drivers.bridge.hostfirewalls import CHAIN
from cnm.drivers.bridge.others import OthersForwarding
from cnm.runtime.kernel.nft import LibNft
from cnm.runtime.kernel.nftgen import generation
from cnm.types import NetworkID, Reach

pytestmark = pytest.mark.timeout(patient(180))
OWN, OTHER = 2222, 2223  # ports of the host's own programs: allowed, and not


@dataclass
class Beside:
    """A host with a firewall."""

    world: World
    firewall: HostFirewall

    def web(self, protocol: str = "tcp", **options: str) -> Web:
        return Web(self.world, protocol, options={f"bridge.{k}": v for k, v in options.items()})

    def ruleset(self) -> str:
        """Of others."""
        return self.world.host.sh("nft -s list ruleset")

    def reaches_world(self, place: Place, version: int) -> str | None:
        """The source that a peer outside sees of a container."""
        with serving(self.world.peer, "tcp", 700) as server:
            return server.seen_from(place, PEER[version], 700, expected=True)

    def restore(self, web: Web, *more: Web) -> list[str]:
        """What the daemon does when rules were changed; ``more``: of the same network."""
        states = [item.attached.state(ports=item.bindings) for item in (web, *more)]
        return [str(item) for item in self.world.driver.restore(web.spec, states)]


@pytest.fixture(params=[Firewalld, Ufw], ids=["firewalld", "ufw"])
def beside(request: pytest.FixtureRequest, world: World) -> Iterator[Beside]:
    with request.param(world.host.namespace.name) as firewall:
        yield Beside(world, firewall)


@pytest.fixture
def firewalld(world: World) -> Iterator[Beside]:
    with Firewalld(world.host.namespace.name) as firewall:
        yield Beside(world, firewall)


@pytest.fixture
def ufw(world: World) -> Iterator[Beside]:
    with Ufw(world.host.namespace.name) as firewall:
        yield Beside(world, firewall)


@pytest.mark.usefixtures("bridge_filter")
def test_containers_and_published_ports_work(beside: Beside) -> None:
    """Every row of "Who is the client" that the kernel serves."""
    world = beside.world
    web = beside.web()
    neighbour, stranger = world.attach(web.spec, 7), world.attach(world.network(2), 2)
    try:
        for version in (4, 6):
            assert neighbour.sandbox.pings(address(web.attached, version))
            assert beside.reaches_world(neighbour.sandbox, version) == HOST[version]
            assert web.sees(world.peer, HOST[version]) == PEER[version]
            assert web.sees(world.host, HOST[version]) == HOST[version]
            assert web.sees(world.host, LOOPBACK[version]) == gateway(version)
            assert web.sees(neighbour.sandbox, HOST[version]) == gateway(version)
            assert web.sees(web.attached.sandbox, HOST[version]) == gateway(version)
            assert web.sees(stranger.sandbox, HOST[version]) == address(stranger, version)
            assert web.is_hidden(world.peer, address(web.attached, version), INSIDE)
            assert is_silent(stranger.sandbox, web.attached.sandbox, address(web.attached, version))
    finally:
        web.close()


@BY
def test_published_and_opened_by_the_other_modes(protocol: str, beside: Beside) -> None:
    """Routed and nat-unprotected: new connections from outside to containers' own addresses."""
    for number, mode in (("ipv4", "routed"), ("ipv4", "nat-unprotected")):
        web = beside.web(protocol, **{f"gateway_mode_{number}": mode})
        try:
            inside = address(web.attached, 4)
            assert web.sees(beside.world.peer, inside, INSIDE) == PEER[4]
        finally:
            web.close()
            beside.world.driver.delete_network(web.spec.id)


def test_its_own_rules_keep_working(beside: Beside) -> None:
    world = beside.world
    beside.firewall.allow(OWN)
    web = beside.web()
    try:
        with serving(world.host, "tcp", OWN) as open_, serving(world.host, "tcp", OTHER) as shut:
            for version in (4, 6):
                seen = open_.seen_from(world.peer, HOST[version], OWN, expected=True)
                assert seen == PEER[version]
                assert shut.seen_from(world.peer, HOST[version], OTHER, expected=False) is None
    finally:
        web.close()


def test_what_is_put_there_goes_with_the_last_network(beside: Beside) -> None:
    before = beside.ruleset()
    world = beside.world
    one, two = world.network(1), world.network(2)
    assert CHAIN in beside.ruleset()
    world.driver.delete_network(one.id)
    shown = beside.ruleset()
    assert f"br-{one.id[:12]}" not in shown
    assert f"br-{two.id[:12]}" in shown
    world.driver.delete_network(two.id)
    assert beside.ruleset() == before


def test_a_start_that_knows_no_network_takes_it_away(beside: Beside) -> None:
    """As after kill -9, and as ``cnm uninstall`` does."""
    before = beside.ruleset()
    beside.world.network(1)
    fresh = beside.world.host.bridge()
    chains = [item for item in fresh.owned() if item.kind == "chain"]
    assert chains
    for item in chains:
        fresh.remove_orphan(item)
    assert CHAIN not in beside.ruleset()
    for item in fresh.owned():
        fresh.remove_orphan(item)
    assert beside.ruleset() == before


@pytest.mark.parametrize("change", ["reload", "flush, then started anew"])
def test_after_its_reload_everything_is_as_before(change: str, beside: Beside) -> None:
    """CVE-2025-54388, CVE-2025-54410: isolation and loopback ports too, not only what works."""
    world = beside.world
    web = beside.web()
    loopback = ip_address("127.0.0.1")
    local = Web(world, "tcp", spec=web.spec, host_ip=loopback, port=PORT + 1, number=3)
    stranger = world.attach(world.network(2), 2)
    neighbour = world.attach(web.spec, 7)
    have_loopback_elsewhere(world.peer, HOST[4])
    have_loopback_elsewhere(neighbour.sandbox, gateway(4))

    def judge() -> None:
        for version in (4, 6):
            assert web.sees(world.peer, HOST[version]) == PEER[version]
            assert beside.reaches_world(web.attached.sandbox, version) == HOST[version]
            inside = address(web.attached, version)
            assert web.is_hidden(world.peer, inside, INSIDE)
            assert web.is_hidden(stranger.sandbox, inside, INSIDE)
        assert local.sees(world.host, "127.0.0.1", PORT + 1) == gateway(4)
        for place in (world.peer, neighbour.sandbox):
            assert local.is_hidden(place, "127.0.0.1", PORT + 1)

    try:
        judge()
        if change == "reload":
            beside.firewall.reload()
        else:
            world.host.sh("nft flush ruleset")
            beside.firewall.again()
        beside.restore(web, local)
        assert beside.restore(web, local) == []
        judge()
    finally:
        local.close()
        web.close()


def test_check_tells_which_firewall_would_have_said_no(beside: Beside) -> None:
    web = beside.web()
    try:
        lan = next(item for item in reach(beside) if item.origin == "LAN")
        assert lan.verdict
        name = beside.firewall.name
        assert f"{name} (table" in lan.because
        assert "would drop it, but is asked of the host's own ports only" in lan.because
        told = {feature: detail for feature, _, detail in beside.world.driver.diagnose()}
        accepted = [d for f, d in told.items() if f.startswith(f"other firewalls: {name} (")]
        assert f"drops what is routed; our networks are accepted by {CHAIN}" in accepted
    finally:
        web.close()


def reach(beside: Beside) -> list[Reach]:
    return list(beside.world.driver.firewall_reach())


def test_a_port_that_the_helper_serves_is_the_firewalls_to_open(beside: Beside) -> None:
    """An IPv6 client of a container with IPv4 only is asked of INPUT, and told so."""
    world = beside.world
    spec = network("10.9.0.1/24")
    world.driver.create_network(spec)
    web = Web(world, "tcp", spec=spec)
    try:
        assert web.sees(world.peer, HOST[4]) == PEER[4]
        assert web.is_hidden(world.peer, HOST[6])
        (lan,) = [
            item
            for item in reach(beside)
            if item.origin == "LAN" and str(item.binding.host_ip) == "::"
        ]
        assert not lan.verdict
        assert f"{beside.firewall.name} (table" in lan.because
        beside.firewall.allow(PORT)
        beside.restore(web)
        assert web.sees(world.peer, HOST[6]) == "10.9.0.1"
    finally:
        web.close()


# what their owners refuse


@pytest.mark.parametrize(
    "refusal",
    [
        "ufw route deny in on up0 to 10.1.0.0/24",
        "ufw route deny to 10.1.0.0/24",
    ],
)
def test_ufw_route_deny_stays_refused(refusal: str, ufw: Beside) -> None:
    """Also where our chain was there first: ours is put back behind what ufw adds."""
    web = ufw.web()
    try:
        ufw.firewall.run(*refusal.split())
        ufw.firewall.run("ufw", "reload")
        ufw.restore(web)
        assert web.is_hidden(ufw.world.peer, HOST[4])
        assert web.sees(ufw.world.peer, HOST[6]) == PEER[6]
    finally:
        web.close()


def test_ufws_default_of_routed_traffic_is_no_refusal(ufw: Beside) -> None:
    ufw.firewall.run("ufw", "default", "reject", "routed")
    web = ufw.web()
    try:
        for version in (4, 6):
            assert web.sees(ufw.world.peer, HOST[version]) == PEER[version]
            assert ufw.reaches_world(web.attached.sandbox, version) == HOST[version]
    finally:
        web.close()


@pytest.mark.parametrize("order", ["ufw first", "ours first"])
def test_ours_stands_behind_what_others_append(order: str, ufw: Beside) -> None:
    """ufw that is enabled later appends its chains: a deny there must still be asked first."""
    if order == "ours first":
        ufw.firewall.run("ufw", "disable")
        ufw.world.host.sh("nft flush ruleset; iptables -P FORWARD DROP; ip6tables -P FORWARD DROP")
    web = ufw.web()
    try:
        if order == "ours first":
            ufw.firewall.run("ufw", "--force", "enable")
            ufw.restore(web)
        rules = ufw.world.host.sh("iptables -S FORWARD").splitlines()
        assert rules.index(f"-A FORWARD -j {CHAIN}") > rules.index(
            "-A FORWARD -j ufw-before-forward"
        )
        assert rules.index(f"-A FORWARD -j {CHAIN}") < rules.index(
            "-A FORWARD -j ufw-reject-forward"
        )
    finally:
        web.close()


def test_a_zone_that_drops_is_heard(firewalld: Beside) -> None:
    """A bridge that the administrator puts into a zone with a target of its own."""
    web = firewalld.web()
    bridge = f"br-{web.spec.id[:12]}"
    try:
        firewalld.firewall.run("firewall-cmd", "--zone=drop", f"--add-interface={bridge}")
        firewalld.restore(web)
        with serving(firewalld.world.peer, "tcp", 700) as server:
            seen = server.seen_from(web.attached.sandbox, PEER[4], 700, expected=False)
            assert seen is None
        assert web.sees(firewalld.world.peer, HOST[4]) == PEER[4]
    finally:
        web.close()


@pytest.mark.parametrize("zone", ["drop", "block", "trusted", "home"])
def test_any_default_zone(zone: str, firewalld: Beside) -> None:
    """Which says nothing of our networks in particular."""
    firewalld.firewall.run("firewall-cmd", f"--set-default-zone={zone}")
    web = firewalld.web()
    try:
        assert firewalld.reaches_world(web.attached.sandbox, 4) == HOST[4]
        assert web.sees(firewalld.world.peer, HOST[4]) == PEER[4]
    finally:
        web.close()


def test_a_policy_of_firewalld_stays_refused(firewalld: Beside) -> None:
    command = firewalld.firewall.run
    command("firewall-cmd", "--permanent", "--new-policy=no-world")
    for option in ("--add-ingress-zone=ANY", "--add-egress-zone=ANY"):
        command("firewall-cmd", "--permanent", "--policy=no-world", option)
    rule = f'rule family="ipv4" destination address="{PEER[4]}" reject'
    command("firewall-cmd", "--permanent", "--policy=no-world", f"--add-rich-rule={rule}")
    firewalld.firewall.reload()
    web = firewalld.web()
    try:
        with serving(firewalld.world.peer, "tcp", 700) as server:
            seen = server.seen_from(web.attached.sandbox, PEER[4], 700, expected=False)
            assert seen is None
        assert firewalld.reaches_world(web.attached.sandbox, 6) == HOST[6]
    finally:
        web.close()


def test_a_firewalld_that_owns_its_table_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """As newer ones do: logged and told, nothing fails. The table is made here as they make it."""
    owner = Nftables()
    chain = "type filter hook forward priority 10"
    zones = "chain filter_FWD_public { reject with icmpx admin-prohibited; };"
    zones += " chain filter_FORWARD_ZONES { goto filter_FWD_public; };"
    code, _, said = owner.cmd(
        f"table inet firewalld {{ flags owner; {zones} chain filter_FORWARD {{ {chain};"
        " jump filter_FORWARD_ZONES; reject with icmpx admin-prohibited; }; }"
    )
    assert code == 0, said
    spec = world.network(1)
    told = "networks beside another firewall: accepting our networks in nft inet"
    assert told in caplog.text
    caplog.clear()
    for number in (7, 8):  # the rules have changed: it is tried again, but not told again
        world.host.sh(f"nft add table inet other{number}")
        world.driver.restore(spec, [])
    assert told not in caplog.text
    found = [item for item in world.driver.diagnose() if "firewalld (table" in item[0]]
    assert [(works, "zone that forwards" in detail) for _, works, detail in found] == [
        ("warning", True)
    ]


def test_a_table_that_goes_while_it_is_looked_at(world: World) -> None:
    """As when others load theirs again: a network is none the less made."""

    class Racing(LibNft):
        looks = 0

        def rules(self, family: str, table: str, chain: str) -> Sequence[str]:
            self.looks += (family, chain) == ("ip", "FORWARD")
            if self.looks == 2:
                self.delete("ip", "filter")
            return super().rules(family, table, chain)

    world.host.sh("iptables -P FORWARD DROP")
    nft = Racing()
    try:
        others = OthersForwarding(nft, generation)
        others.add(NetworkID("1" * 64), NetworkPolicy("br-1"))
        assert nft.looks >= 2
        assert ("ip", "filter") not in nft.tables()
        assert CHAIN not in world.host.sh("nft list ruleset")
    finally:
        nft.close()
