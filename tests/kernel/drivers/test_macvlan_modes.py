"""Each macvlan mode does what its name says, by the frames on the wire."""

from __future__ import annotations

from typing import Any

import pytest
from kernel.drivers.frames import captured, macs
from kernel.drivers.lab import Host, Place, PlaceFactory, interface, new_id
from kernel.drivers.wire import PARENT, POOLS, Station, attach, lan, wired

from cnm.errors import Forbidden, InvalidParameter

pytestmark = pytest.mark.kernel


class Lan:
    """A host on a LAN with a peer, and two containers of one network in a mode."""

    def __init__(self, host: Host, make_place: PlaceFactory, mode: str) -> None:
        self.host, self.peer = host, make_place()
        wired(host, self.peer)
        self.driver = host.load("macvlan")
        self.spec = lan(*POOLS, macvlan_mode=mode)
        self.driver.create_network(self.spec)
        self.one = self.attach(make_place(), 2)
        self.two = self.attach(make_place(), 3)

    def attach(self, sandbox: Place, number: int) -> Station:
        return attach(self.driver, self.spec, sandbox, f"10.7.0.{number}/24", f"fd07::{number}/64")

    def sent(self, sender: Station, target: str) -> tuple[bool, list[Any]]:
        """Whether a ping is answered, and the echo requests at the other end of the wire.

        The kernel shows the parent also what passes between the links on it.
        """
        with captured(self.peer, "eth0", "icmp[0] == 8") as frames:
            answered = sender.sandbox.pings(target)
        return answered, frames


def test_bridge(host: Host, make_place: PlaceFactory) -> None:
    """Neighbours by the shortest way, the LAN by the wire, each with a MAC of its own."""
    found = Lan(host, make_place, "bridge")
    answered, frames = found.sent(found.one, "10.7.0.3")
    assert answered
    assert frames == []
    answered, frames = found.sent(found.one, "10.7.0.9")
    assert answered
    assert macs(frames) == {(found.one.mac, found.peer.link("eth0")["address"])}
    assert found.one.mac == "02:42:0a:07:00:02"
    assert found.peer.pings("10.7.0.3")
    assert found.peer.pings("fd07::3")
    assert found.one.sandbox.pings("fd07::3")


def test_private(host: Host, make_place: PlaceFactory) -> None:
    """The LAN, and no neighbours, even if a switch sends their frames back."""
    found = Lan(host, make_place, "private")
    reflect(found.peer)
    assert found.one.sandbox.pings("10.7.0.9")
    assert found.two.sandbox.pings("10.7.0.9")
    assert not found.one.sandbox.pings("10.7.0.3")


def test_vepa(host: Host, make_place: PlaceFactory) -> None:
    """What is for neighbours goes out to the switch, and is theirs if it comes back (802.1Qbg)."""
    found = Lan(host, make_place, "vepa")
    assert not found.one.sandbox.pings("10.7.0.3")
    reflect(found.peer)
    answered, frames = found.sent(found.one, "10.7.0.3")
    assert answered
    assert (found.one.mac, found.two.mac) in macs(frames)


def reflect(peer: Place) -> None:
    """Make the peer's end a switch's port that sends frames back where they came from."""
    peer.sh(
        "ip link add sw type bridge; ip link set sw up; ip link set eth0 master sw;"
        "ip link set eth0 type bridge_slave hairpin on;"
        "ip address flush dev eth0; ip address add 10.7.0.9/24 dev sw"
    )


def test_passthru(host: Host, make_place: PlaceFactory) -> None:
    """The container is the parent, MAC address and all; there is no place for a second one."""
    peer = make_place()
    wired(host, peer)
    driver = host.load("macvlan")
    spec = lan(macvlan_mode="passthru")
    driver.create_network(spec)
    with pytest.raises(InvalidParameter, match="in mode passthru the container has the MAC"):
        driver.create_endpoint(
            spec.id, new_id(), interface("10.7.0.2/24", mac="02:00:00:00:00:01"), {}
        )
    one = attach(driver, spec, make_place(), "10.7.0.2/24")
    assert one.interface.mac == one.mac == host.link(PARENT)["address"]
    assert peer.pings("10.7.0.2")
    with pytest.raises(Forbidden, match="parent interface lan0 is one container's, and one has it"):
        driver.create_endpoint(spec.id, new_id(), interface("10.7.0.3/24"), {})
    driver.leave(spec.id, one.endpoint_id)
    driver.delete_endpoint(spec.id, one.endpoint_id)
    assert attach(driver, spec, make_place(), "10.7.0.3/24").mac == host.link(PARENT)["address"]
