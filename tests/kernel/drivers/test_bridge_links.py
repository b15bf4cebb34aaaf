"""Bridges and links as they come out: names, marks, addresses, MTU, sysctls."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from kernel.drivers.lab import Host, PlaceFactory, attach, interface, network, new_id

from cnm.errors import Forbidden, InvalidParameter
from cnm.types import EndpointID

JUMBO = {"driver.mtu": "9000"}


def sysctl(host: Host, name: str) -> str:
    return host.sh(f"sysctl -n {name}").strip()


def test_the_bridge(host: Host) -> None:
    spec = network("10.77.0.1/24", "10.78.0.1/24", "fd77::1/64", "fd78::1/64")
    host.bridge().create_network(spec)
    name = f"br-{spec.id[:12]}"
    link = host.link(name)
    assert link["linkinfo"]["info_kind"] == "bridge"
    assert "UP" in link["flags"]
    assert link["ifalias"] == f"cnm:network:{spec.id}"
    assert link["mtu"] == 1500
    assert host.addresses(name) == {"10.77.0.1/24", "10.78.0.1/24", "fd77::1/64", "fd78::1/64"}
    assert "tentative" not in host.sh(f"ip addr show dev {name} scope global")
    assert sysctl(host, f"net.ipv6.conf.{name}.accept_ra") == "0"
    assert sysctl(host, f"net.ipv6.conf.{name}.disable_ipv6") == "0"


def test_no_ipv6_where_none_is_wanted(host: Host, make_place: PlaceFactory) -> None:
    spec = network("10.77.0.1/24")
    driver = host.bridge()
    driver.create_network(spec)
    attach(driver, spec, make_place(), "10.77.0.2/24")
    name = f"br-{spec.id[:12]}"
    assert sysctl(host, f"net.ipv6.conf.{name}.disable_ipv6") == "1"
    assert host.sh(f"ip -6 addr show dev {name}") == ""


def test_the_mac_stays_whatever_ports_come(host: Host, make_place: PlaceFactory) -> None:
    spec = network()
    driver = host.bridge()
    driver.create_network(spec)
    name = f"br-{spec.id[:12]}"
    before = host.link(name)["address"]
    joined = attach(driver, spec, make_place(), "10.77.0.2/24", mac="00:00:5e:00:53:01")
    assert host.link(name)["address"] == before
    driver.leave(spec.id, joined.endpoint_id)
    assert host.link(name)["address"] == before


def test_the_pair(host: Host, make_place: PlaceFactory) -> None:
    spec = network("10.77.0.1/24", "fd77::1/64")
    driver, sandbox = host.bridge(), make_place()
    driver.create_network(spec)
    joined = attach(driver, spec, sandbox, "10.77.0.2/24", name="lan0", configure=False)
    outer, inner = host.link(joined.host_link), sandbox.link("lan0")
    assert outer["ifalias"] == f"cnm:endpoint:{joined.endpoint_id}"
    assert inner["ifalias"] == f"cnm:inside:{joined.endpoint_id}"
    assert outer["master"] == f"br-{spec.id[:12]}"
    assert "UP" in outer["flags"]
    assert "UP" not in inner["flags"]
    assert inner["address"] == "02:42:0a:4d:00:02"
    assert sandbox.addresses("lan0") == set()
    assert (joined.join.interface_name, joined.join.placed) == ("lan0", True)
    assert str(joined.join.gateway) == "10.77.0.1"
    assert joined.join.gateway_ipv6 is None
    assert driver.endpoint_oper_info(spec.id, joined.endpoint_id) == {
        "com.docker.network.endpoint.macaddress": "02:42:0a:4d:00:02"
    }


def test_a_name_that_somebody_has(host: Host, make_place: PlaceFactory) -> None:
    """The next digits of the id are taken, and found again."""
    spec = network()
    driver, sandbox = host.bridge(), make_place()
    driver.create_network(spec)
    endpoint_id = EndpointID(new_id())
    host.sh(f"ip link add veth{endpoint_id[:7]} type bridge")
    driver.create_endpoint(spec.id, endpoint_id, interface("10.77.0.2/24"), {})
    driver.join(spec.id, endpoint_id, sandbox.key, "eth0", {})
    assert host.link(f"veth{endpoint_id[7:14]}")["linkinfo"]["info_kind"] == "veth"
    driver.leave(spec.id, endpoint_id)
    assert host.link_names() == {f"br-{spec.id[:12]}", f"veth{endpoint_id[:7]}"}


def test_an_engine_finds_the_link_outside(host: Host) -> None:
    spec = network()
    driver = host.bridge()
    driver.create_network(spec)
    endpoint_id = EndpointID(new_id())
    driver.create_endpoint(spec.id, endpoint_id, interface("10.77.0.2/24"), {})
    join = driver.join(spec.id, endpoint_id, None, "eth0", {})
    assert join.source_name == f"vp{endpoint_id[:7]}"
    assert host.link(join.source_name)["address"] == "02:42:0a:4d:00:02"
    assert driver.join(spec.id, endpoint_id, None, "eth0", {}) == join


def test_several_leave_at_once(host: Host, make_place: PlaceFactory) -> None:
    spec = network()
    driver, sandbox = host.bridge(), make_place()
    driver.create_network(spec)
    joined = [
        attach(driver, spec, sandbox, f"10.77.0.{number}/24", name=f"eth{number}", configure=False)
        for number in range(2, 14)
    ]
    with ThreadPoolExecutor(len(joined)) as pool:
        list(pool.map(lambda item: driver.leave(spec.id, item.endpoint_id), joined))
    assert sandbox.link_names() == set()
    assert host.link_names() == {f"br-{spec.id[:12]}"}


def test_many_networks_at_once(host: Host) -> None:
    before = host.snapshot()
    driver = host.bridge()
    specs = [network(f"10.{number}.0.1/24", f"fd{number}::1/64") for number in range(10, 26)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(driver.create_network, specs))
        bridges = {f"br-{spec.id[:12]}" for spec in specs}
        assert host.link_names() == bridges
        listed = host.sh("nft list set inet cnm-bridge bridges")
        assert all(name in listed for name in bridges)
        assert [driver.restore(spec, []) for spec in specs] == [[]] * len(specs)
        list(pool.map(driver.delete_network, [spec.id for spec in specs]))
    assert host.snapshot() == before


@pytest.mark.usefixtures("leaves_nothing")
def test_no_descriptor_and_no_thread_is_left(host: Host, make_place: PlaceFactory) -> None:
    spec = network("10.77.0.1/24", "fd77::1/64")
    driver, sandbox = host.bridge(), make_place()
    for _ in range(3):
        driver.create_network(spec)
        joined = attach(driver, spec, sandbox, "10.77.0.2/24", configure=False)
        driver.restore(spec, [joined.state()])
        driver.leave(spec.id, joined.endpoint_id)
        driver.delete_network(spec.id)
    host.close()
    host.drivers.clear()


# MTU


def test_mtu_as_wanted(host: Host, make_place: PlaceFactory) -> None:
    spec = network(options={"driver.mtu": "1400"})
    driver, one, two = host.bridge(), make_place(), make_place()
    driver.create_network(spec)
    joined = attach(driver, spec, one, "10.77.0.2/24")
    attach(driver, spec, two, "10.77.0.3/24")
    assert host.link(f"br-{spec.id[:12]}")["mtu"] == 1400
    assert host.link(joined.host_link)["mtu"] == 1400
    assert one.link("eth0")["mtu"] == 1400
    assert one.pings("10.77.0.3", size=1372)
    assert not one.pings("10.77.0.3", size=1373)


def test_mtu_of_the_default_route(host: Host) -> None:
    host.sh(
        "ip link add up0 mtu 1450 type veth peer name up1; ip link set up1 up; ip link set up0 up;"
        "ip addr add 192.0.2.1/24 dev up0; ip route add default via 192.0.2.2"
    )
    spec = network()
    driver = host.bridge()
    driver.create_network(spec)
    name = f"br-{spec.id[:12]}"
    assert host.link(name)["mtu"] == 1450
    host.sh("ip link set up0 mtu 1300")
    assert driver.restore(spec, []) == []
    assert host.link(name)["mtu"] == 1450


def test_mtu_stays_when_the_last_port_leaves(host: Host, make_place: PlaceFactory) -> None:
    spec = network(options=JUMBO)
    driver = host.bridge()
    driver.create_network(spec)
    joined = attach(driver, spec, make_place(), "10.77.0.2/24")
    driver.leave(spec.id, joined.endpoint_id)
    assert host.link(f"br-{spec.id[:12]}")["mtu"] == 9000


def test_mtu_from_the_daemons_defaults(host: Host) -> None:
    spec = network()
    host.bridge({"com.docker.network.driver.mtu": "1350"}).create_network(spec)
    assert host.link(f"br-{spec.id[:12]}")["mtu"] == 1350


@pytest.mark.parametrize("mtu", ["68", "65535"])
def test_mtu_at_its_limits(mtu: str, host: Host) -> None:
    spec = network(options={"driver.mtu": mtu})
    host.bridge().create_network(spec)
    assert host.link(f"br-{spec.id[:12]}")["mtu"] == int(mtu)


# existing bridges


def test_an_existing_bridge_is_used_and_left(host: Host, make_place: PlaceFactory) -> None:
    host.sh("ip link add lan mtu 1400 type bridge; ip addr add 10.77.0.1/24 dev lan")
    driver = host.bridge()
    spec = network("10.77.0.1/24", "fd77::1/64", options={"bridge.name": "lan"})
    driver.create_network(spec)
    assert host.addresses("lan") == {"10.77.0.1/24", "fd77::1/64"}
    assert "UP" in host.link("lan")["flags"]
    joined = attach(driver, spec, make_place(), "10.77.0.2/24")
    assert host.link(joined.host_link)["master"] == "lan"
    assert host.link(joined.host_link)["mtu"] == 1400
    driver.delete_network(spec.id)
    assert host.addresses("lan") == {"10.77.0.1/24"}  # it was there before
    assert host.link("lan").get("ifalias") is None
    assert host.link_names() == {"lan"}


def test_no_address_on_request(host: Host, make_place: PlaceFactory) -> None:
    host.sh("ip link add lan type bridge")
    driver = host.bridge()
    options = {"bridge.name": "lan", "bridge.inhibit_ipv4": "true"}
    spec = network("10.77.0.1/24", options=options)
    driver.create_network(spec)
    assert host.addresses("lan") == set()
    joined = attach(driver, spec, make_place(), "10.77.0.2/24")
    assert str(joined.join.gateway) == "10.77.0.1"


def test_a_named_bridge_of_ours_goes(host: Host) -> None:
    driver = host.bridge()
    spec = network(options={"bridge.name": "cnm0", "bridge.default_bridge": "true"})
    driver.create_network(spec)
    assert host.link("cnm0")["ifalias"] == f"cnm:network:{spec.id}"
    assert list(driver.devices()) == ["cnm0"]
    driver.delete_network(spec.id)
    assert host.link_names() == set()
    assert list(driver.devices()) == []


def test_one_bridge_for_one_network(host: Host) -> None:
    driver = host.bridge()
    one = network("10.1.0.1/24", options={"bridge.name": "lan"})
    two = network("10.2.0.1/24", options={"bridge.name": "lan"})
    driver.create_network(one)
    before = host.snapshot()
    text = (
        rf"cannot create network {two.id} \(lan\): conflicts with network {one.id} \(lan\): "
        "networks have same bridge name"
    )
    with pytest.raises(Forbidden, match=text):
        driver.check_network(two)
    with pytest.raises(Forbidden, match=text):
        driver.create_network(two)
    assert host.snapshot() == before
    driver.delete_network(one.id)
    driver.create_network(two)


def test_a_name_of_another_kind_of_link(host: Host) -> None:
    host.sh("ip link add lan type veth peer name lan1")
    before = host.snapshot()
    driver = host.bridge()
    spec = network(options={"bridge.name": "lan"})
    for refuse in (driver.check_network, driver.create_network):
        with pytest.raises(Forbidden, match="link lan is no bridge but veth; choose another"):
            refuse(spec)
    assert host.snapshot() == before


def test_a_bridge_of_a_network_that_is_not_known(host: Host) -> None:
    host.sh(f"ip link add lan type bridge; ip link set lan alias cnm:network:{'9' * 64}")
    driver = host.bridge()
    with pytest.raises(Forbidden, match=f"bridge lan belongs to network {'9' * 64}"):
        driver.create_network(network(options={"bridge.name": "lan"}))


def test_bad_options_are_refused_before_anything_is_touched(host: Host) -> None:
    before = host.snapshot()
    driver = host.bridge()
    spec = network(options={"bridge.no_such": "1"})
    for refuse in (driver.check_network, driver.create_network, driver.skip_gateway):
        with pytest.raises(InvalidParameter, match=r"bridge\.no_such"):
            refuse(spec)
    assert host.snapshot() == before


@pytest.mark.parametrize(
    ("options", "internal", "skipped"),
    [
        ({}, False, (False, False)),
        ({}, True, (False, False)),
        ({"bridge.inhibit_ipv4": "true"}, False, (False, False)),
        ({"bridge.inhibit_ipv4": "true"}, True, (True, False)),
        ({"bridge.gateway_mode_ipv4": "isolated"}, True, (True, False)),
        ({"bridge.gateway_mode_ipv6": "isolated"}, True, (False, True)),
    ],
)
def test_gateways_that_nobody_needs(
    options: dict[str, str], internal: bool, skipped: tuple[bool, bool], host: Host
) -> None:
    spec = network(options=options, internal=internal)
    assert host.bridge().skip_gateway(spec) == skipped


# sysctls of the host


def forwarding(host: Host) -> tuple[str, str]:
    return sysctl(host, "net.ipv4.ip_forward"), sysctl(host, "net.ipv6.conf.all.forwarding")


def test_forwarding_only_while_it_is_needed(host: Host) -> None:
    driver = host.bridge()
    internal = network("10.1.0.1/24", "fd01::1/64", internal=True)
    ipv4, dual = network("10.2.0.1/24"), network("10.3.0.1/24", "fd03::1/64")
    driver.create_network(internal)
    assert forwarding(host) == ("0", "0")
    driver.create_network(ipv4)
    assert forwarding(host) == ("1", "0")
    driver.create_network(dual)
    assert forwarding(host) == ("1", "1")
    driver.delete_network(ipv4.id)
    assert forwarding(host) == ("1", "1")
    driver.delete_network(dual.id)
    assert forwarding(host) == ("0", "0")


def test_the_host_keeps_the_route_that_it_was_advertised(host: Host) -> None:
    host.sh("ip link add up0 type veth peer name up1; sysctl -qw net.ipv6.conf.up1.accept_ra=0")
    driver = host.bridge()
    one, two = network("fd01::1/64"), network("fd02::1/64")
    driver.create_network(one)
    driver.create_network(two)
    driver.delete_network(one.id)
    assert sysctl(host, "net.ipv6.conf.up0.accept_ra") == "2"
    assert sysctl(host, "net.ipv6.conf.up1.accept_ra") == "0"
    again = host.bridge()  # restarted: states its needs anew
    again.restore(two, [])
    again.delete_network(two.id)
    assert sysctl(host, "net.ipv6.conf.up0.accept_ra") == "1"
    assert forwarding(host) == ("0", "0")


def test_what_the_kernel_must_have(host: Host) -> None:
    before = host.snapshot()
    findings = host.bridge().diagnose()
    assert all(works for _, works, _ in findings), findings
    assert len(findings) == 7
    assert host.snapshot() == before


@pytest.mark.parametrize("filtered", ["0", "1"])
@pytest.mark.parametrize(("hook", "within"), [("forward", True), ("input", False)])
def test_another_firewall_that_drops_is_told(
    hook: str, within: bool, filtered: str, host: Host
) -> None:
    host.sh(f"sysctl -qw net.bridge.bridge-nf-call-iptables={filtered}")
    host.sh(
        "nft add table ip other; nft 'add chain ip other mild "
        f"{{ type filter hook {hook} priority 0; }}'; nft 'add chain ip other strict "
        f"{{ type filter hook {hook} priority 1; policy drop; }}'"
    )
    driver = host.bridge()
    driver.create_network(network())
    told = {feature: detail for feature, works, detail in driver.diagnose() if works == "warning"}
    assert "other firewalls: table ip other, chain strict" in told
    assert ("packets within a network pass other programs' rules" in told) == (
        within and filtered == "1"
    )
    assert len(told) == 1 + (within and filtered == "1")
    assert not [works for _, works, _ in driver.diagnose() if not works]
