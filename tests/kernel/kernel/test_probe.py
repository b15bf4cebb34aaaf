"""Who has an address: real neighbours on a real link are asked, and listened to."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from kernel.namespaces import Namespace, NamespaceFactory, entered, poll
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from cnm.runtime.kernel import probeframes
from cnm.runtime.kernel.interior import Interior
from cnm.runtime.kernel.probe import WireProber
from cnm.types import IPAddress

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("lan")]

OURS, PRINTER = "02:00:00:00:00:01", "02:00:00:00:00:05"
V4, V6 = ip_address("10.9.0.5"), ip_address("fd00:9::5")
FREE_V4, FREE_V6 = ip_address("10.9.0.6"), ip_address("fd00:9::6")


@pytest.fixture
def lan(host_ns: Namespace, make_ns: NamespaceFactory) -> Namespace:
    """The host's eth0 (no address), and a printer on the same wire."""
    made = make_ns("printer")
    plug_in(host_ns, made)
    made.sh(f"link set eth0 up; addr add {V4}/24 dev eth0; addr add {V6}/64 dev eth0 nodad")
    return made


def plug_in(host: Namespace, other: Namespace) -> None:
    there = f"peer name eth0 address {PRINTER} netns {other.name}"
    host.sh(f"link add eth0 address {OURS} type veth {there}; link set eth0 up")


@pytest.fixture
def prober(lan: Namespace) -> Iterator[WireProber]:
    with contextlib.closing(WireProber()) as made:
        yield made


def test_holders_of_both_families_are_found_with_their_mac(prober: WireProber) -> None:
    found = prober.holders("eth0", [V4, V6, FREE_V4, FREE_V6])
    assert found == {V4: PRINTER, V6: PRINTER}


def test_nobody_learns_anything_from_a_probe(prober: WireProber, lan: Namespace) -> None:
    prober.holders("eth0", [FREE_V4, FREE_V6])
    assert OURS not in str(lan.ip("neighbour", "show"))


def test_the_hosts_own_addresses_are_taken_too(prober: WireProber, host_ns: Namespace) -> None:
    host_ns.sh(f"addr add {FREE_V4}/24 dev eth0")
    assert prober.holders("eth0", [FREE_V4]) == {FREE_V4: OURS}


def test_a_link_that_is_down_or_gone_has_nobody_behind_it(
    prober: WireProber, host_ns: Namespace
) -> None:
    assert prober.holders("absent", [V4]) == {}
    host_ns.sh("link set eth0 down")
    assert prober.holders("eth0", [V4, V6]) == {}


@pytest.mark.usefixtures("leaves_nothing")
def test_of_two_that_probe_at_once_at_most_one_goes_on(lan: Namespace) -> None:
    results: list[Any] = []

    def ask() -> None:
        results.append(WireProber().holders("eth0", [FREE_V4, FREE_V6]))

    there = threading.Thread(target=ask)
    with entered(lan):
        there.start()
    ask()
    there.join()
    for address in (FREE_V4, FREE_V6):
        assert sum(address not in found for found in results) <= 1


def say(lan: Namespace, frame: Any) -> None:
    """Put a frame on the wire from the printer's side."""
    interior = Interior(socket.socket.close)
    with entered(lan):
        interior.open()
    sender = interior.take_sender("eth0")
    interior.close()
    assert sender is not None
    with sender:
        sender.send(bytes(frame))


def claim_v4(address: IPAddress, mac: str) -> Any:
    packet = ARP(op=1, hwsrc=mac, psrc=str(address), pdst=str(address))
    return Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / packet


def claim_v6(address: IPAddress, mac: str) -> Any:
    told = ICMPv6ND_NA(tgt=str(address), O=1) / ICMPv6NDOptDstLLAddr(lladdr=mac)
    ethernet = Ether(src=mac, dst="33:33:00:00:00:01")
    return ethernet / IPv6(src=str(address), dst="ff02::1", hlim=255) / told


class Heard:
    """A guard's reports."""

    def __init__(self, prober: WireProber) -> None:
        self.reports: list[tuple[str, IPAddress, str]] = []
        prober.watch(lambda link, address, mac: self.reports.append((link, address, mac)))


@pytest.mark.usefixtures("leaves_nothing")
def test_a_later_claim_is_told_once_with_the_mac(lan: Namespace) -> None:
    prober = WireProber()
    heard = Heard(prober)
    prober.guard(lambda: {"eth0": {FREE_V4: OURS, FREE_V6: OURS}})
    for _ in range(3):
        say(lan, claim_v4(FREE_V4, PRINTER))
        say(lan, claim_v6(FREE_V6, PRINTER))
    say(lan, claim_v4(FREE_V4, "02:00:00:00:00:07"))
    poll(lambda: len(heard.reports) >= 3, "the claims")
    assert sorted(heard.reports, key=str) == [
        ("eth0", FREE_V4, PRINTER),
        ("eth0", FREE_V4, "02:00:00:00:00:07"),
        ("eth0", FREE_V6, PRINTER),
    ]
    prober.close()
    prober.close()


def test_what_is_no_conflict_is_not_told(prober: WireProber, lan: Namespace) -> None:
    heard = Heard(prober)
    prober.guard(lambda: {"eth0": {FREE_V4: PRINTER, FREE_V6: PRINTER}})
    say(lan, claim_v4(V4, "02:00:00:00:00:07"))  # another address
    say(lan, claim_v4(FREE_V4, PRINTER))  # whoever may have it
    say(lan, claim_v6(FREE_V6, PRINTER))
    probe = ARP(op=1, hwsrc="02:00:00:00:00:07", psrc="0.0.0.0", pdst=str(FREE_V4))
    say(lan, Ether(src="02:00:00:00:00:07", dst="ff:ff:ff:ff:ff:ff") / probe)  # it only asks
    say(lan, claim_v4(FREE_V4, "02:00:00:00:00:08"))  # the last one: frames come in order
    poll(lambda: heard.reports, "a claim")
    assert heard.reports == [("eth0", FREE_V4, "02:00:00:00:00:08")]


def test_a_guard_follows_what_is_in_use(prober: WireProber, lan: Namespace) -> None:
    heard = Heard(prober)
    prober.guard(lambda: {"eth0": {FREE_V4: OURS}})
    prober.guard(lambda: {"eth0": {V4: OURS}})
    say(lan, claim_v4(FREE_V4, PRINTER))
    say(lan, claim_v4(V4, PRINTER))
    poll(lambda: heard.reports, "a claim")
    assert heard.reports == [("eth0", V4, PRINTER)]
    prober.guard(lambda: {})
    prober.guard(lambda: {"eth0": {FREE_V4: OURS}})
    say(lan, claim_v4(FREE_V4, PRINTER))
    poll(lambda: len(heard.reports) == 2, "a claim after all was dropped")


def test_a_link_that_comes_back_is_guarded_again(
    prober: WireProber, host_ns: Namespace, lan: Namespace
) -> None:
    heard = Heard(prober)

    def wires() -> dict[str, dict[IPAddress, str]]:
        return {"eth0": {FREE_V4: OURS}}

    prober.guard(wires)
    host_ns.sh("link delete eth0")
    prober.guard(wires)
    plug_in(host_ns, lan)
    lan.sh("link set eth0 up")
    prober.guard(wires)
    say(lan, claim_v4(FREE_V4, PRINTER))
    poll(lambda: heard.reports, "a claim on the new link")


def test_what_cannot_be_listened_on_is_logged_and_tried_again(
    prober: WireProber, lan: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard(prober)
    prober.guard(lambda: {"eth0": {FREE_V6: OURS}})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # nothing more can be opened
    try:
        prober.guard(lambda: {"eth0": {FREE_V4: OURS, FREE_V6: OURS}})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "conflicts on eth0 are not listened for" in caplog.text
    prober.guard(lambda: {"eth0": {FREE_V4: OURS, FREE_V6: OURS}})
    say(lan, claim_v4(FREE_V4, PRINTER))
    poll(lambda: heard.reports, "a claim")


def test_a_link_that_was_down_is_guarded_on(
    prober: WireProber, host_ns: Namespace, lan: Namespace
) -> None:
    heard = Heard(prober)
    prober.guard(lambda: {"eth0": {FREE_V4: OURS}})
    host_ns.sh("link set eth0 down")
    host_ns.sh("link set eth0 up")
    prober.guard(lambda: {"eth0": {FREE_V4: OURS}})
    poll(lambda: host_ns.ip("link", "show", "eth0")[0]["operstate"] == "UP", "the link")
    say(lan, claim_v4(FREE_V4, PRINTER))
    poll(lambda: heard.reports, "a claim")


def test_a_thousand_addresses_fit_one_filter(prober: WireProber, lan: Namespace) -> None:
    heard = Heard(prober)
    many = {ip_address(f"10.9.{number >> 8}.{number & 255}"): OURS for number in range(1, 1500)}
    prober.guard(lambda: {"eth0": many})
    last = ip_address("10.9.5.219")
    say(lan, claim_v4(last, PRINTER))
    poll(lambda: heard.reports, "a claim")
    assert heard.reports == [("eth0", last, PRINTER)]


def test_frames_are_what_scapy_reads() -> None:
    mac = bytes.fromhex(OURS.replace(":", ""))
    arp = Ether(probeframes.probe_for(mac, V4))[ARP]
    assert (arp.op, arp.psrc, arp.pdst, arp.hwsrc) == (1, "0.0.0.0", str(V4), OURS)
    frame = Ether(probeframes.probe_for(mac, V6))
    assert frame.dst == "33:33:ff:00:00:05"
    assert (frame[IPv6].src, frame[IPv6].dst, frame[IPv6].hlim) == ("::", "ff02::1:ff00:5", 255)
    assert frame[ICMPv6ND_NS].tgt == str(V6)
    checksum = frame[ICMPv6ND_NS].cksum
    del frame[ICMPv6ND_NS].cksum
    assert Ether(bytes(frame))[ICMPv6ND_NS].cksum == checksum


def test_a_question_is_no_claim_and_rubbish_is_nothing() -> None:
    question = Ether() / IPv6(src="fd00:9::1", dst="ff02::1:ff00:5") / ICMPv6ND_NS(tgt=str(V6))
    assert probeframes.claim_of(bytes(question)) is None
    whole = bytes(claim_v4(V4, PRINTER))
    for end in range(len(whole) - 20):
        assert probeframes.claim_of(whole[:end]) is None
    whole = bytes(claim_v6(V6, PRINTER))
    for end in range(14 + 40 + 8 + 16):
        assert probeframes.claim_of(whole[:end]) is None


def test_a_daemon_that_has_more_descriptors_than_select_knows(prober: WireProber) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with contextlib.ExitStack() as many:
        many.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while many.enter_context(open(os.devnull, "rb")).fileno() < 1024:
            pass
        assert prober.holders("eth0", [V4]) == {V4: PRINTER}
