"""DHCP messages (RFC 2131, options of RFC 2132): bytes to values and back. No I/O.

Read from a server that may send anything: what is cut short or contradicts itself is no
message. An option in several parts is put together (RFC 3396), options may go on in the fields
``file`` and ``sname`` (option 52), and routes come with or without classes (RFC 3442).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from cnm.ipam import dhcpdomains
from cnm.types import StaticRoute

CLIENT_PORT, SERVER_PORT = 68, 67
_COOKIE = b"\x63\x82\x53\x63"
_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s")
_REQUEST, _REPLY = 1, 2
_ETHERNET = 1
_BROADCAST = 0x8000  # the answer goes to everybody: nobody has the address or the MAC yet
_SMALLEST = 300  # RFC 1542, 2.1: relays may drop what is shorter
_LARGEST = 1500 - 28  # what we take, one Ethernet frame (option 57)
_FOREVER = 0xFFFFFFFF
_IN_FILE, _IN_SNAME = 1, 2


class Kind(enum.IntEnum):
    """DHCP message types."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7


class Option(enum.IntEnum):
    """The options that we send or read."""

    PAD = 0
    NETMASK = 1
    ROUTER = 3
    DNS = 6
    HOSTNAME = 12
    DOMAIN = 15
    REQUESTED = 50
    LEASE_TIME = 51
    OVERLOAD = 52
    KIND = 53
    SERVER = 54
    WANTED = 55
    MESSAGE = 56
    LARGEST = 57
    T1 = 58
    T2 = 59
    CLIENT_ID = 61
    SEARCH = 119
    ROUTES = 121
    END = 255


_WANTED = bytes(
    [
        Option.NETMASK,
        Option.ROUTES,
        Option.ROUTER,
        Option.DNS,
        Option.DOMAIN,
        Option.SEARCH,
        Option.LEASE_TIME,
        Option.T1,
        Option.T2,
    ]
)
_DNS_SERVERS = 3  # resolv.conf(5) has no more
_SEARCH_DOMAINS = 6  # what every resolver of libc takes


@dataclass(frozen=True, slots=True)
class Message:
    """What matters of a message, either way. ``relay`` and the rest of BOOTP: nothing of ours."""

    kind: Kind
    transaction: int
    mac: str
    client: IPv4Address = IPv4Address(0)  # ciaddr: the address that the client has
    yours: IPv4Address = IPv4Address(0)  # yiaddr: the address that the server gives
    broadcast: bool = False
    seconds: int = 0  # since the client began
    options: Mapping[int, bytes] = field(default_factory=dict)

    # what a server says

    def address(self, option: Option) -> IPv4Address | None:
        """The (first) address of an option."""
        value = self.options.get(option, b"")
        return IPv4Address(value[:4]) if len(value) >= 4 else None

    def seconds_of(self, option: Option) -> int | None:
        """A time; None: not said, or for ever."""
        value = self.options.get(option, b"")
        (seconds,) = struct.unpack("!I", value) if len(value) == 4 else (_FOREVER,)
        return None if seconds == _FOREVER else int(seconds)

    @property
    def interface(self) -> IPv4Interface | None:
        """The given address and its prefix; None if they make no sense."""
        mask = self.address(Option.NETMASK)
        try:
            found = IPv4Interface(f"{self.yours}/{mask}" if mask else f"{self.yours}/32")
        except ValueError:
            return None
        unusable = (
            found.ip.is_unspecified
            or found.ip.is_loopback
            or found.ip.is_multicast
            or int(found.ip) == 0xFFFFFFFF
            or found.network.prefixlen == 0
        )
        return None if unusable else found

    @property
    def routes(self) -> tuple[IPv4Address | None, tuple[StaticRoute, ...]]:
        """Default gateway and other routes. Those without classes replace option 3 (RFC 3442)."""
        classless = _classless(self.options.get(Option.ROUTES, b""))
        if not classless:
            return self.address(Option.ROUTER), ()
        gateway, rest = None, []
        for route in classless:
            if route.destination.prefixlen == 0:
                gateway = gateway or route.next_hop
            else:
                rest.append(route)
        return (gateway if isinstance(gateway, IPv4Address) else None), tuple(rest)

    @property
    def dns_servers(self) -> tuple[IPv4Address, ...]:
        """The first ones that can be a machine's: not the container itself, nor everybody."""
        value = self.options.get(Option.DNS, b"")
        found = [IPv4Address(value[at : at + 4]) for at in range(0, len(value) - 3, 4)]
        usable = [
            item
            for item in found
            if not (item.is_unspecified or item.is_loopback or item.is_multicast)
            and int(item) != 0xFFFFFFFF
        ]
        return tuple(dict.fromkeys(usable))[:_DNS_SERVERS]

    @property
    def search(self) -> tuple[str, ...]:
        """Domains to search: those of the list (RFC 3397), else the one domain (RFC 2132).

        Some servers put several, with spaces, into the place of the one.
        """
        listed = dhcpdomains.decode(self.options.get(Option.SEARCH, b""))
        domain = self.options.get(Option.DOMAIN, b"").decode("ascii", "replace")
        named = [text for text in domain.rstrip("\0").split(" ") if dhcpdomains.is_domain(text)]
        return tuple(dict.fromkeys(listed or named))[:_SEARCH_DOMAINS]

    @property
    def text(self) -> str:
        """Why a server refuses, in its own words; printable, and not too long."""
        raw = self.options.get(Option.MESSAGE, b"")[:80].decode("ascii", "replace")
        return "".join(character for character in raw if character.isprintable())


def _classless(data: bytes) -> list[StaticRoute]:
    """Option 121; all of it is dropped if any of it is malformed."""
    routes, position = [], 0
    while position < len(data):
        prefix = data[position]
        width = (prefix + 7) // 8
        end = position + 1 + width + 4
        if prefix > 32 or end > len(data):
            return []
        packed = data[position + 1 : position + 1 + width].ljust(4, b"\0")
        destination = IPv4Network((packed, prefix), strict=False)
        next_hop = IPv4Address(data[end - 4 : end])
        routes.append(StaticRoute(destination, next_hop if int(next_hop) else None))
        position = end
    return routes


def encode(message: Message) -> bytes:
    """A message of a client."""
    fixed = _FIXED.pack(
        _REQUEST,
        _ETHERNET,
        6,
        0,
        message.transaction,
        min(message.seconds, 0xFFFF),
        _BROADCAST if message.broadcast else 0,
        message.client.packed,
        bytes(4),
        bytes(4),
        bytes(4),
        bytes.fromhex(message.mac.replace(":", "")),
        b"",
        b"",
    )
    options = {int(Option.KIND): bytes([message.kind]), **message.options}
    if message.kind in (Kind.DISCOVER, Kind.REQUEST):
        options[Option.WANTED] = _WANTED
        options[Option.LARGEST] = struct.pack("!H", _LARGEST)
    body = b"".join(bytes([code, len(value)]) + value for code, value in options.items())
    return (fixed + _COOKIE + body + bytes([Option.END])).ljust(_SMALLEST, b"\0")


def decode(data: bytes) -> Message | None:
    """A message of a server; None: it is none, or it is malformed."""
    if len(data) < _FIXED.size + len(_COOKIE):
        return None
    operation, _, width, _, transaction, seconds, flags, client, yours, _, _, mac, sname, file = (
        _FIXED.unpack_from(data)
    )
    if operation != _REPLY or width != 6 or data[_FIXED.size :][: len(_COOKIE)] != _COOKIE:
        return None
    options: dict[int, bytes] = {}
    _read_options(data[_FIXED.size + len(_COOKIE) :], options)
    overload = options.get(Option.OVERLOAD, b"\0")[-1:] or b"\0"
    if overload[0] & _IN_FILE:
        _read_options(file, options)
    if overload[0] & _IN_SNAME:
        _read_options(sname, options)
    try:
        kind = Kind(options.get(Option.KIND, b"\0")[0])
    except (ValueError, IndexError):
        return None
    return Message(
        kind,
        transaction,
        mac[:6].hex(":"),
        IPv4Address(client),
        IPv4Address(yours),
        bool(flags & _BROADCAST),
        seconds,
        options,
    )


def _read_options(data: bytes, options: dict[int, bytes]) -> None:
    position = 0
    while position < len(data) and data[position] != Option.END:
        code = data[position]
        if code == Option.PAD:
            position += 1
            continue
        if position + 2 > len(data) or position + 2 + data[position + 1] > len(data):
            return  # cut short: what was whole counts
        end = position + 2 + data[position + 1]
        options[code] = options.get(code, b"") + data[position + 2 : end]
        position = end
