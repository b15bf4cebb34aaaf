"""Ports as asked for and as they are, and the elements that follow."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from cnm.drivers.bridge import portmap
from cnm.drivers.bridge.firewall import Member
from cnm.drivers.bridge.portmap import Container, Wish
from cnm.errors import PortTaken
from cnm.types import PortBinding

ANY4, ANY6 = ip_address("0.0.0.0"), ip_address("::")
DUAL = Container(IPv4Address("10.1.0.2"), IPv6Address("fd01::2"))
ONLY4 = Container(IPv4Address("10.1.0.2"), None)


def bindings(host: str, *ports: tuple[int, int], protocol: str = "tcp") -> list[PortBinding]:
    """On one address: (port of the host, port of the container)."""
    return [PortBinding(protocol, inside, ip_address(host), outside) for outside, inside in ports]


def elements(container: Container, ports: list[PortBinding]) -> set[Member]:
    return set(portmap.members(ports, container))


def test_a_shifted_port_is_one_element() -> None:
    assert elements(DUAL, bindings("0.0.0.0", (5005, 80))) == {
        Member("ports_any_ipv4", "tcp . 5005", "10.1.0.2 . 80")
    }
    assert elements(DUAL, bindings("192.0.2.1", (5005, 80))) == {
        Member("ports_ipv4", "tcp . 192.0.2.1 . 5005", "10.1.0.2 . 80")
    }


@pytest.mark.parametrize(
    ("number", "ranges"), [(7, 0), (8, 1), (1000, 1)], ids=["few", "enough", "many"]
)
def test_neighbours_that_are_not_shifted(number: int, ranges: int) -> None:
    ports = bindings("::", *((port, port) for port in range(6000, 6000 + number)))
    found = elements(DUAL, ports)
    assert len([item for item in found if item.set == "ranges_any_ipv6"]) == ranges
    assert len(found) == ranges or len(found) == number


def test_a_hole_parts_a_range() -> None:
    ports = [(port, port) for port in range(6000, 6020) if port != 6010]
    assert {item.key for item in elements(DUAL, bindings("0.0.0.0", *ports))} == {
        "tcp . 6000-6009",
        "tcp . 6011-6019",
    }


def test_shifted_neighbours_stay_single() -> None:
    ports = [(6000 + each, 80 + each) for each in range(20)]
    assert len(elements(DUAL, bindings("0.0.0.0", *ports))) == 20


@pytest.mark.parametrize("host", ["::1", "fe80::1"])
def test_what_the_kernel_cannot_carry_has_no_element(host: str) -> None:
    assert elements(DUAL, bindings(host, (5005, 80))) == set()
    assert DUAL.served_by(ip_address(host)) == DUAL.ipv6


def test_whom_the_helper_serves() -> None:
    assert DUAL.served_by(ANY6) == DUAL.ipv6  # for ::1
    assert DUAL.served_by(ip_address("2001:db8::1")) is None
    assert ONLY4.served_by(ip_address("2001:db8::1")) == ONLY4.ipv4
    assert ONLY4.served_by(ANY4) is None
    assert elements(ONLY4, bindings("::", (5005, 80))) == set()


def test_open_ports_of_routed_containers() -> None:
    routed = Container(DUAL.ipv4, DUAL.ipv6, frozenset({4, 6}))
    ports = [PortBinding("tcp", 80, ANY4), PortBinding("tcp", 80, ANY6)]
    assert elements(routed, ports) == {
        Member("open_ipv4", "tcp . 10.1.0.2 . 80"),
        Member("open_ipv6", "tcp . fd01::2 . 80"),
    }


def wish(inside: int, low: int = 0, high: int = 0) -> Wish:
    return Wish("tcp", inside, (ANY4, ANY6), low, high or low)


def held(inside: int, port: int) -> list[PortBinding]:
    return [PortBinding("tcp", inside, address, port) for address in (ANY4, ANY6)]


def test_what_is_open_stays_where_it_is() -> None:
    before = [*held(80, 32768), *held(80, 32769), *held(81, 8001)]
    asked = [wish(80), wish(80), wish(81, 8000, 8010), wish(80)]
    found = portmap.settle(asked, before)
    assert [(item.low, item.high) for item in found] == [
        (32768, 32768),
        (32769, 32769),
        (8001, 8001),
        (0, 0),
    ]


def test_what_is_fixed_comes_first() -> None:
    found = portmap.settle([wish(80), wish(80, 32768)], held(80, 32768))
    assert [item.low for item in found] == [0, 32768]


def test_another_address_is_another_port() -> None:
    only = [PortBinding("tcp", 80, ANY4, 32768)]
    assert portmap.settle([wish(80)], only) == [wish(80)]


def test_the_same_twice() -> None:
    assert portmap.settle([wish(80, 5005), wish(80, 5005)], []) == [wish(80, 5005)]
    assert portmap.settle([wish(80), wish(80)], []) == [wish(80), wish(80)]
    with pytest.raises(PortTaken, match="0.0.0.0:5005"):
        portmap.settle([wish(80, 5005), wish(81, 5005)], [])
    one = Wish("tcp", 81, (ip_address("192.0.2.1"),), 5005, 5005)
    with pytest.raises(PortTaken, match="192.0.2.1:5005"):
        portmap.settle([wish(80, 5005), one], [])


def test_what_is_held_is_not_asked_for_again() -> None:
    there = dict(portmap.leads([*held(80, 5005), *held(81, 5006)[:1]]))
    assert portmap.is_held(wish(80, 5005), there)
    assert not portmap.is_held(wish(80), there)
    assert not portmap.is_held(wish(80, 5005, 5010), there)
    assert not portmap.is_held(wish(82, 5005), there)  # clients would be passed on to another port
    assert not portmap.is_held(wish(81, 5006), there)  # on one address of two
    assert not portmap.is_held(wish(80, 5005), {})


def test_elements_of_one_map_are_together() -> None:
    """One command for each map, whatever the order of the ports: a family alternates otherwise."""
    ports = [each for number in range(20) for each in held(80, 5000 + 7 * number)]
    names = [item.set for item in portmap.members(ports, DUAL)]
    assert names == ["ports_any_ipv4"] * 20 + ["ports_any_ipv6"] * 20
