"""Ports as asked for, as they are, and what follows for the port helper and the rules. Pure.

Each port is asked for on one address of the host, or, where nothing is said, on all of both
families, then with one number for both. A family whose gateway mode is ``routed`` has no ports
of the host: its containers' own are opened.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import groupby

from cnm.drivers.bridge.firewall import Member
from cnm.drivers.bridge.options import GatewayMode
from cnm.drivers.bridge.portprotocol import Key, Wanted
from cnm.drivers.bridge.record import NetworkRecord
from cnm.errors import InvalidParameter, PortTaken
from cnm.types import EndpointInterface, IPAddress, PortBinding, address_text

PROTOCOLS = ("tcp", "udp", "sctp")
LAST_PORT = 65535
_ALL: dict[int, IPAddress] = {4: IPv4Address("0.0.0.0"), 6: IPv6Address("::")}
_EVERYWHERE = tuple(_ALL.values())
_Place = tuple[tuple[IPAddress, ...], tuple[int, ...]]  # of the host; versions that are routed
# A range costs 4.6 ms where the map has 10,000, a single port 0.05: it pays from here on only
# where many more ports are saved than this; but few have so many, and then it reads better.
_RANGE_FROM = 8


@dataclass(frozen=True, slots=True)
class Container:
    """Where an endpoint's ports lead. ``None``: it has no address of that family."""

    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    routed: frozenset[int] = frozenset()  # versions
    trusted: bool = False  # some interfaces of the host may reach its published ports directly

    @classmethod
    def of(cls, known: NetworkRecord, interface: EndpointInterface) -> Container:
        modes = {4: known.options.mode_ipv4, 6: known.options.mode_ipv6}
        return cls(
            interface.address.ip if interface.address else None,
            interface.address_ipv6.ip if interface.address_ipv6 else None,
            frozenset(version for version, mode in modes.items() if mode is GatewayMode.ROUTED),
            bool(known.options.trusted_interfaces),
        )

    def address(self, version: int) -> IPAddress | None:
        return self.ipv4 if version == 4 else self.ipv6

    def leads_by(self, host: IPAddress) -> IPAddress | None:
        """Whom packets to that address of the host are sent on to, by the kernel."""
        return None if _is_beyond_kernel(host) else self.address(host.version)

    def served_by(self, host: IPAddress) -> IPAddress | None:
        """Whom clients of that address are passed on to by the helper, if the kernel does not."""
        if host.version == 4:
            return None
        if self.ipv6 is None:
            return self.ipv4
        return self.ipv6 if host in _EVERYWHERE or _is_beyond_kernel(host) else None


@lru_cache(maxsize=256)
def _is_beyond_kernel(host: IPAddress) -> bool:
    """Addresses that no answer of a container finds back to: see chain *published*."""
    return host.version == 6 and (host.is_loopback or host.is_link_local)


@dataclass(frozen=True, slots=True)
class Wish:
    """One port of a container, and where the host should have it. ``low`` 0: any."""

    protocol: str
    container_port: int
    addresses: tuple[IPAddress, ...] = field(hash=False)  # of the host; none if all is routed
    low: int = 0
    high: int = 0
    opened: tuple[int, ...] = ()  # versions that are routed

    def bindings(self, port: int) -> Iterator[PortBinding]:
        """How it is, with that port chosen."""
        for host in self.addresses:
            yield PortBinding(self.protocol, self.container_port, host, port)
        for version in self.opened:
            yield PortBinding(self.protocol, self.container_port, _ALL[version])


def wanted(wishes: Iterable[Wish], container: Container) -> list[Wanted]:
    """What the helper is asked for."""
    served: dict[tuple[IPAddress, ...], list[tuple[str, str | None]]] = {}
    found = []
    for each in wishes:
        leads = served.get(each.addresses)
        if leads is None:
            leads = served[each.addresses] = [
                (address_text(host), _text(container.served_by(host))) for host in each.addresses
            ]
        port = each.container_port
        addresses = tuple((host, (to, port) if to else None) for host, to in leads)
        found.append(Wanted(each.protocol, addresses, each.low, each.high))
    return found


def _text(address: IPAddress | None) -> str | None:
    return None if address is None else address_text(address)


def check(binding: PortBinding) -> None:
    """:raises InvalidParameter: it could be published nowhere."""
    if binding.protocol not in PROTOCOLS:
        raise InvalidParameter(f"invalid proto: {binding.protocol}")
    if not 0 < binding.container_port <= LAST_PORT:
        raise InvalidParameter(f"invalid containerPort: {binding.container_port}")
    low, high = binding.host_port, binding.host_port_end or binding.host_port
    if not 0 <= low <= high <= LAST_PORT or (high and not low):
        raise InvalidParameter(
            f"invalid hostPort: {low}-{high}" if high != low else f"invalid hostPort: {low}"
        )


def wishes(
    bindings: Iterable[PortBinding], known: NetworkRecord, container: Container, *, ipv6: bool
) -> list[Wish]:
    """What bindings mean for this container. ``ipv6``: the host has such sockets.

    :raises InvalidParameter: the container has no address that a host address could lead to.
    """
    places: dict[IPAddress | None, _Place] = {}
    found = []
    for binding in bindings:
        check(binding)
        place = places.get(binding.host_ip)
        if place is None:
            place = places[binding.host_ip] = _place_of(binding, known, container, ipv6=ipv6)
        addresses, opened = place
        low = binding.host_port if addresses else 0
        high = (binding.host_port_end or low) if low else 0
        found.append(Wish(binding.protocol, binding.container_port, addresses, low, high, opened))
    return found


def _place_of(
    binding: PortBinding, known: NetworkRecord, container: Container, *, ipv6: bool
) -> _Place:
    """Where a binding's host address is."""
    asked = binding.host_ip or known.options.host_binding
    if binding.host_ip is None and (asked is None or asked.is_unspecified):
        asked = None
    hosts = [asked] if asked is not None else [_ALL[4], *([_ALL[6]] if ipv6 else [])]
    addresses: list[IPAddress] = []
    opened: list[int] = []
    for host in hosts:
        if host.version in container.routed and container.address(host.version) is not None:
            opened.append(host.version)
        elif _leads(host, container):
            addresses.append(host)
        elif asked is not None:
            raise InvalidParameter(
                f"cannot publish {binding.container_port}/{binding.protocol} on {asked}: "
                f"the container has no IPv{asked.version} address"
            )
    return tuple(addresses), tuple(opened)


def _leads(host: IPAddress, container: Container) -> bool:
    if container.address(host.version) is not None:
        return True
    # IPv6 clients of an IPv4-only container: not where its address is known outside
    return host.version == 6 and container.ipv4 is not None and 4 not in container.routed


def settle(wishes: Sequence[Wish], held: Iterable[PortBinding]) -> list[Wish]:
    """The wishes, those that are open narrowed to what is held already.

    :raises PortTaken: two of them want the same.
    """
    free = {_key(item): item.container_port for item in held if item.host_port}
    kept: dict[int, Wish] = {}
    for closed_first in (True, False):
        for place, each in enumerate(wishes):
            if (each.low == each.high != 0) is closed_first:
                kept[place] = settled = each if closed_first else _narrowed(each, free)
                for key in _keys_of(settled) if free else ():
                    free.pop(key, None)
    found: list[Wish] = []
    once: set[Wish] = set()  # said twice, a port is one; two that are open are two
    for place in range(len(wishes)):
        settled = kept[place]
        is_fixed = settled.low == settled.high != 0
        if not is_fixed or settled not in once:
            found.append(settled)
            once.add(settled)
    _refuse_twice(found)
    return found


def _narrowed(each: Wish, free: dict[Key, int]) -> Wish:
    for protocol, _, port in free:
        candidate = replace(each, low=port, high=port)
        inside = not each.low or each.low <= port <= each.high
        if protocol == each.protocol and inside and each.addresses:
            keys = _keys_of(candidate)
            if all(free.get(key) == each.container_port for key in keys):
                return candidate
    return each


def _refuse_twice(wishes: Iterable[Wish]) -> None:
    seen: dict[tuple[str, int], tuple[IPAddress, ...]] = {}
    for each in wishes:
        if each.low != each.high or not each.low:
            continue
        others = seen.get((each.protocol, each.low), ())
        for host, other in itertools.product(each.addresses, others):
            if _overlap(host, other):
                where = f"[{host}]" if host.version == 6 else str(host)
                raise PortTaken(f"Bind for {where}:{each.low} failed: port is already allocated")
        seen[each.protocol, each.low] = (*others, *each.addresses)


def _overlap(one: IPAddress, other: IPAddress) -> bool:
    return one.version == other.version and (one == other or _ALL[one.version] in (one, other))


def _keys_of(each: Wish) -> list[Key]:
    return [(each.protocol, address_text(host), each.low) for host in each.addresses]


def _key(binding: PortBinding) -> Key:
    return binding.protocol, address_text(binding.host_ip or _ALL[4]), binding.host_port


def keys(bindings: Iterable[PortBinding]) -> list[Key]:
    """What the helper holds for these."""
    return [_key(binding) for binding in bindings if binding.host_port]


def leads(bindings: Iterable[PortBinding]) -> Iterator[tuple[Key, int]]:
    """What the helper holds for these, and for which port of the container."""
    return ((_key(binding), binding.container_port) for binding in bindings if binding.host_port)


def is_held(wish: Wish, held: Mapping[Key, int]) -> bool:
    """Whether a wish asks for just what is held."""
    if not held or not wish.low or wish.low != wish.high:
        return False
    return all(held.get(key) == wish.container_port for key in _keys_of(wish))


# elements


def members(bindings: Iterable[PortBinding], container: Container) -> Iterator[Member]:
    """What the routed table holds of an endpoint's ports."""
    bindings = list(bindings)
    yield from _translated(bindings, container)
    yield from _opened(bindings, container)


def _translated(bindings: Iterable[PortBinding], container: Container) -> Iterator[Member]:
    """The shifted ones of an address first, then the others, as ranges where that pays."""
    by_host: dict[tuple[str, IPAddress], list[PortBinding]] = {}
    for binding in bindings:
        if binding.host_ip is not None and binding.host_port:
            by_host.setdefault((binding.protocol, binding.host_ip), []).append(binding)
    for (protocol, host), ports in by_host.items():
        target = _text(container.leads_by(host))
        if target is None:
            continue
        place, before = _place(host), _before(protocol, host)
        straight = [port.host_port for port in ports if port.host_port == port.container_port]
        for port in ports:
            if port.host_port != port.container_port:
                lead = f"{target} . {port.container_port}"
                yield Member(f"ports_{place}", f"{before} . {port.host_port}", lead)
        for low, high in _runs(straight):
            if low == high:
                yield Member(f"ports_{place}", f"{before} . {low}", f"{target} . {low}")
            else:
                yield Member(f"ranges_{place}", f"{before} . {low}-{high}", target)


def _opened(bindings: Iterable[PortBinding], container: Container) -> Iterator[Member]:
    """Ports of the container itself: where it is routed, or interfaces are trusted."""
    opened: dict[tuple[str, int], set[int]] = {}
    for binding in bindings:
        if binding.host_ip is not None and (not binding.host_port or container.trusted):
            ports = opened.setdefault((binding.protocol, binding.host_ip.version), set())
            ports.add(binding.container_port)
    for (protocol, version), ports_of in opened.items():
        address = container.address(version)
        if address is None:
            continue
        for low, high in _runs(ports_of):
            kind, port = ("open", f"{low}") if low == high else ("open_ranges", f"{low}-{high}")
            yield Member(f"{kind}_ipv{version}", f"{protocol} . {address} . {port}")


def _place(host: IPAddress) -> str:
    return f"any_ipv{host.version}" if host in _EVERYWHERE else f"ipv{host.version}"


def _before(protocol: str, host: IPAddress) -> str:
    """The key of a port, without the port."""
    return protocol if host in _EVERYWHERE else f"{protocol} . {address_text(host)}"


def _runs(ports: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring ports as a range, if they are many; others each by itself."""
    ordered = sorted(set(ports))
    for _, group in groupby(enumerate(ordered), key=lambda item: item[1] - item[0]):
        run = [port for _, port in group]
        if len(run) >= _RANGE_FROM:
            yield run[0], run[-1]
        else:
            yield from ((port, port) for port in run)
