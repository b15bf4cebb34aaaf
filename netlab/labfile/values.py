"""Names, addresses and commands of a lab file: one text in, one value out.

Each takes a text and raises ValueError with what is wrong, or takes a field where it
needs to see more than a text.
"""

from __future__ import annotations

import ipaddress
import re
import shlex

from cnm.netlab.labfile.document import Field
from cnm.netlab.model import SWITCHES
from cnm.types import IPAddress, IPInterface, IPNetwork

NAME_LENGTH = 32  # <lab>.<host> is a file name in /run/netns, the host part a hostname
INTERFACE_LENGTH = 15  # IFNAMSIZ less the final NUL
VLAN_MAX = 4094  # 802.1Q; 4095 is reserved
MTU_MIN, MTU_MAX = 68, 65535  # RFC 791, and what veth takes
IPV6_MTU_MIN = 1280  # RFC 8200

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_OBJECT = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")  # Docker's, for networks and containers
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")


def lab_name(text: str) -> str:
    """The name of a lab."""
    if len(text) > NAME_LENGTH or not _NAME.fullmatch(text):
        raise ValueError(
            f'"{text}" is no name of a lab: small letters, digits and hyphens, '
            f"{NAME_LENGTH} characters at most"
        )
    return text


def host_name(text: str) -> str:
    """The name of a host or router."""
    if text == SWITCHES:
        raise ValueError(f'"{text}" cannot be a host: the lab\'s switches have that name')
    if len(text) > NAME_LENGTH or not _NAME.fullmatch(text):
        raise ValueError(
            f'"{text}" is no host name: small letters, digits and hyphens, '
            f"{NAME_LENGTH} characters at most"
        )
    return text


def switch_name(text: str) -> str:
    """The name of a switch: a bridge has it, so it has to fit an interface."""
    if len(text) > INTERFACE_LENGTH or not _NAME.fullmatch(text):
        raise ValueError(
            f'"{text}" is no name of a switch: small letters, digits and hyphens, '
            f"{INTERFACE_LENGTH} characters at most"
        )
    return text


def interface_name(text: str) -> str:
    """The name of an interface in a host."""
    if text == "lo":
        raise ValueError("every host has lo already")
    if len(text.encode()) > INTERFACE_LENGTH or not _INTERFACE.fullmatch(text):
        raise ValueError(
            f'"{text}" is no name of an interface: {INTERFACE_LENGTH} characters at most, '
            "letters, digits, dot, hyphen and underscore"
        )
    return text


def object_name(text: str) -> str:
    """The name of a network, process or link."""
    if not _OBJECT.fullmatch(text):
        raise ValueError(f'"{text}" is no name: letters, digits, dot, hyphen and underscore')
    return text


def container_name(text: str) -> str:
    """The name of a container; engines want two characters at least."""
    if len(text) < 2 or not _OBJECT.fullmatch(text):
        raise ValueError(
            f'"{text}" is no name of a container: two characters at least, '
            "letters, digits, dot, hyphen and underscore"
        )
    return text


def interface_address(text: str) -> IPInterface:
    """An address with its prefix length that an interface can have."""
    if "/" not in text:
        raise ValueError(f"{text} needs a prefix length, for example {text}/24")
    try:
        found = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(f'"{text}" is not an address with prefix length') from None
    network = found.network
    if network.prefixlen < network.max_prefixlen - 1:
        if found.ip == network.network_address:
            raise ValueError(f"{text} is the network's own address, no interface can have it")
        if found.version == 4 and found.ip == network.broadcast_address:
            raise ValueError(f"{text} is the broadcast address, no interface can have it")
    if found.ip.is_multicast or found.ip.is_unspecified:
        raise ValueError(f"{text} is not an address that an interface can have")
    return found


def address(text: str) -> IPAddress:
    """A plain address."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f'"{text}" is not an IP address') from None


def ipv4_address(text: str) -> IPAddress:
    """A plain IPv4 address."""
    return _of_version(text, 4)


def ipv6_address(text: str) -> IPAddress:
    """A plain IPv6 address."""
    return _of_version(text, 6)


def _of_version(text: str, version: int) -> IPAddress:
    found = address(text)
    if found.version != version:
        raise ValueError(f"{text} is not an IPv{version} address")
    return found


def network(text: str) -> IPNetwork:
    """A subnet in CIDR form."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        right = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'"{text}" is not a subnet, for example 10.1.0.0/24') from None
    raise ValueError(f"{text} has host bits set: the subnet is {right}")


def mac_address(text: str) -> str:
    """A unicast MAC address."""
    low = text.lower()
    if not _MAC.fullmatch(low) or int(low[:2], 16) & 1:
        raise ValueError(f'"{text}" is not a MAC address of one interface: 02:00:00:00:00:01')
    return low


def mtu(field: Field) -> int:
    """An MTU."""
    return field.integer(MTU_MIN, MTU_MAX)


def vlan(field: Field) -> int:
    """A VLAN's number."""
    return field.integer(1, VLAN_MAX)


def command(field: Field) -> tuple[str, ...]:
    """A list of words, or one line that is split as a shell would."""
    if field.is_list:
        words = field.each(lambda item: item.text())
    else:
        words = tuple(field.parsed(_split))
    if not words:
        raise field.refuse("needs a command")
    return words


def pairs(field: Field) -> tuple[tuple[str, str], ...]:
    """A mapping of texts, or a list of ``key=value``."""
    if field.is_list:
        return field.each(lambda item: item.parsed(_pair))
    return tuple((key, value.scalar() or "") for key, value in field.entries().items())


def sysctls(field: Field) -> tuple[tuple[str, str], ...]:
    """Settings of a host's own network; all others are the machine's."""
    found = pairs(field)
    for name, _ in found:
        if not name.startswith(("net.", "net/")):
            field.refuse(f"{name} is the whole machine's: a host has those that begin with net.")
    return found


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ValueError(f'"{text}" must be KEY=VALUE')
    return key, value


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text}: {error}") from None
