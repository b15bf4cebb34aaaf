"""The frames of announcements, read by scapy."""

from __future__ import annotations

from ipaddress import ip_interface

from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from cnm.runtime.kernel.announce import frames_for

MAC = "02:42:0a:09:00:02"
RAW_MAC = bytes.fromhex(MAC.replace(":", ""))


def test_ipv4_is_an_arp_announcement() -> None:
    (raw,) = frames_for(RAW_MAC, [ip_interface("10.9.0.2/24")])
    frame = Ether(raw)
    assert (frame.src, frame.dst) == (MAC, "ff:ff:ff:ff:ff:ff")
    arp = frame[ARP]
    assert (arp.op, arp.hwsrc, arp.hwdst) == (1, MAC, "00:00:00:00:00:00")
    assert arp.psrc == arp.pdst == "10.9.0.2"


def test_ipv6_is_an_unsolicited_advertisement() -> None:
    (raw,) = frames_for(RAW_MAC, [ip_interface("fd00:9::2/64")])
    frame = Ether(raw)
    assert (frame.src, frame.dst) == (MAC, "33:33:00:00:00:01")
    assert (frame[IPv6].src, frame[IPv6].dst, frame[IPv6].hlim) == ("fd00:9::2", "ff02::1", 255)
    advertisement = frame[ICMPv6ND_NA]
    assert (advertisement.R, advertisement.S, advertisement.O) == (0, 0, 1)
    assert advertisement.tgt == "fd00:9::2"
    assert frame[ICMPv6NDOptDstLLAddr].lladdr == MAC
    sent = advertisement.cksum
    del advertisement.cksum
    assert Ether(bytes(frame))[ICMPv6ND_NA].cksum == sent


def test_one_frame_for_each_address() -> None:
    addresses = [ip_interface(text) for text in ("10.9.0.2/24", "fd00:9::2/64", "169.254.1.1/16")]
    assert len(list(frames_for(RAW_MAC, addresses))) == 3
