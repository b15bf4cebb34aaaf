"""ARP probes, IPv6 duplicate address detection, and what others say of addresses: bytes only.

An ARP probe asks for an address with the sender's left out, so that no cache learns anything
of it (RFC 5227, 1.1); its IPv6 counterpart is a solicitation from the unspecified address (RFC
4862, 5.4.2). The filters are classic BPF, run by the kernel: a socket wakes us only for what
concerns an address that was asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from cnm.runtime.kernel import bpf
from cnm.runtime.kernel.announce import (
    BROADCAST,
    ETH_P_ARP,
    ETH_P_IPV6,
    ICMPV6,
    neighbour_packet,
)
from cnm.types import IPAddress

SOLICITATION, ADVERTISEMENT = 135, 136  # RFC 4861, 4.3 and 4.4
_UNSPECIFIED = IPv6Address("::")
_SOLICITED_NODE = int(IPv6Address("ff02::1:ff00:0"))  # RFC 4291, 2.7.1
_TARGET_LINK_ADDRESS = 2

# where things lie in a frame, from its Ethernet header on
_TYPE, _ARP, _IPV6 = 12, 14, 14
_SENDER_IP, _TARGET_IP = _ARP + 14, _ARP + 24
_NEXT_HEADER, _ICMP = _IPV6 + 6, _IPV6 + 40
_TARGET = _ICMP + 8
_TARGET_LOW = _TARGET + 12  # its last four bytes

_WHOLE = 0xFFFF
MOST = 1900  # addresses in one filter: the kernel takes 4096 instructions, we need two for each


@dataclass(frozen=True, slots=True)
class Claim:
    """What a frame says: this MAC has the address, or is about to take it (``probing``)."""

    address: IPAddress
    mac: str
    probing: bool = False


def probe_for(mac: bytes, address: IPAddress) -> bytes:
    """The frame that asks who has an address, and tells nobody anything."""
    if isinstance(address, IPv6Address):
        return _duplicate_detection(mac, address)
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + bytes(4) + bytes(6) + address.packed
    return BROADCAST + mac + struct.pack("!H", ETH_P_ARP) + body


def _duplicate_detection(mac: bytes, address: IPv6Address) -> bytes:
    group = IPv6Address(_SOLICITED_NODE | (int(address) & 0xFFFFFF))
    body = struct.pack("!BBHI", SOLICITATION, 0, 0, 0) + address.packed
    ethernet = b"\x33\x33" + group.packed[-4:]
    return ethernet + mac + neighbour_packet(_UNSPECIFIED, group, body)


def claim_of(frame: bytes) -> Claim | None:
    """What a received frame says of an address; None: nothing, or it is malformed."""
    (kind,) = struct.unpack_from("!H", frame, _TYPE) if len(frame) > _ARP else (0,)
    if kind == ETH_P_ARP and len(frame) >= _TARGET_IP + 4:
        return _arp_claim(frame)
    if kind == ETH_P_IPV6 and len(frame) >= _TARGET + 16 and frame[_NEXT_HEADER] == ICMPV6:
        return _neighbour_claim(frame)
    return None


def _arp_claim(frame: bytes) -> Claim | None:
    mac = frame[_ARP + 8 : _ARP + 14].hex(":")
    sender = IPv4Address(frame[_SENDER_IP : _SENDER_IP + 4])
    if int(sender):
        return Claim(sender, mac)
    return Claim(IPv4Address(frame[_TARGET_IP : _TARGET_IP + 4]), mac, probing=True)


def _neighbour_claim(frame: bytes) -> Claim | None:
    kind, target = frame[_ICMP], ip_address(frame[_TARGET : _TARGET + 16])
    if kind == ADVERTISEMENT:
        option = frame[_TARGET + 16 : _TARGET + 24]
        told = len(option) == 8 and option[0] == _TARGET_LINK_ADDRESS
        return Claim(target, (option[2:] if told else frame[6:12]).hex(":"))
    from_nobody = frame[_IPV6 + 8 : _IPV6 + 24] == _UNSPECIFIED.packed
    if kind == SOLICITATION and from_nobody:
        return Claim(target, frame[6:12].hex(":"), probing=True)
    return None  # an ordinary question: it says nothing of whom the target belongs to


# what the kernel lets through


def everything() -> list[bpf.Instruction]:
    """ARP and neighbour discovery, without a VLAN tag: a tagged frame is for another link."""
    return [
        (bpf.LOAD_BYTE, 0, 0, bpf.VLAN_TAG),
        (bpf.JUMP_EQUAL, 0, 9, 0),
        (bpf.LOAD_HALF, 0, 0, _TYPE),
        (bpf.JUMP_EQUAL, 6, 0, ETH_P_ARP),
        (bpf.JUMP_EQUAL, 0, 6, ETH_P_IPV6),
        (bpf.LOAD_BYTE, 0, 0, _NEXT_HEADER),
        (bpf.JUMP_EQUAL, 0, 4, ICMPV6),
        (bpf.LOAD_BYTE, 0, 0, _ICMP),
        (bpf.JUMP_EQUAL, 1, 0, SOLICITATION),
        (bpf.JUMP_EQUAL, 0, 1, ADVERTISEMENT),
        (bpf.RETURN, 0, 0, _WHOLE),
        (bpf.RETURN, 0, 0, 0),
    ]


def said_of(addresses: Collection[IPAddress]) -> list[bpf.Instruction]:
    """Frames whose sender says that he has one of these addresses, all of one family.

    Of an IPv6 address the last four bytes are compared; :func:`claim_of` has the rest.
    """
    if all(isinstance(address, IPv4Address) for address in addresses):
        found: list[bpf.Instruction] = [(bpf.LOAD_WORD, 0, 0, _SENDER_IP)]
    else:
        found = [
            (bpf.LOAD_BYTE, 0, 0, _NEXT_HEADER),
            (bpf.JUMP_EQUAL, 1, 0, ICMPV6),
            (bpf.RETURN, 0, 0, 0),
            (bpf.LOAD_BYTE, 0, 0, _ICMP),
            (bpf.JUMP_EQUAL, 1, 0, ADVERTISEMENT),
            (bpf.RETURN, 0, 0, 0),
            (bpf.LOAD_WORD, 0, 0, _TARGET_LOW),
        ]
    for address in addresses:
        found += [(bpf.JUMP_EQUAL, 0, 1, int(address) & 0xFFFFFFFF), (bpf.RETURN, 0, 0, _WHOLE)]
    return [*found, (bpf.RETURN, 0, 0, 0)]
