"""Ports as asked for, as they are, and what follows for the port helper and the rules. Pure.

Each port is asked for on one address of the host, or, where nothing is said, on all of both
families, then with one number for both. A family whose gateway mode is ``routed`` has no ports
of the host: its containers' own are opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import groupby

from cnm.drivers.bridge.firewall import Member
from cnm.drivers.bridge.options import GatewayMode
from cnm.drivers.bridge.portprotocol import Key, Target, Wanted
from cnm.drivers.bridge.record import NetworkRecord
from cnm.errors import InvalidParameter, PortTaken
from cnm.types import EndpointInterface, IPAddress, PortBinding

PROTOCOLS = ("tcp", "udp", "sctp")
LAST_PORT = 65535
_ALL: dict[int, IPAddress] = {4: IPv4Address("0.0.0.0"), 6: IPv6Address("::")}
_EVERYWHERE = tuple(_ALL.values())
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
def _text(address: IPAddress) -> str:
    """Fifty ports have the same few addresses, and writing one takes 5 µs."""
    return str(address)


@lru_cache(maxsize=256)
def _is_beyond_kernel(host: IPAddress) -> bool:
    """Addresses that no answer of a container finds back to: see chain *published*."""
    return host.version == 6 and (host.is_loopback or host.is_link_local)


@dataclass(frozen=True, slots=True)
class Wish:
    """One port of a container, and where the host should have it. ``low`` 0: any."""

    protocol: str
    container_port: int
    addresses: tuple[IPAddress, ...]  # of the host; none if all is routed
    low: int = 0
    high: int = 0
    opened: tuple[int, ...] = ()  # versions that are routed

    def wanted(self, container: Container) -> Wanted:
        """What the helper is asked for."""
        addresses = tuple(
            (_text(host), self._target(container.served_by(host))) for host in self.addresses
        )
        return Wanted(self.protocol, addresses, self.low, self.high)

    def _target(self, address: IPAddress | None) -> Target | None:
        return (_text(address), self.container_port) if address is not None else None

    def bindings(self, port: int) -> Iterator[PortBinding]:
        """How it is, with that port chosen."""
        for host in self.addresses:
            yield PortBinding(self.protocol, self.container_port, host, port)
        for version in self.opened:
            yield PortBinding(self.protocol, self.container_port, _ALL[version])


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


def wish(binding: PortBinding, known: NetworkRecord, container: Container, *, ipv6: bool) -> Wish:
    """What a binding means for this container. ``ipv6``: the host has such sockets.

    :raises InvalidParameter: the container has no address that its host address could lead to.
    """
    check(binding)
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
    low = binding.host_port if addresses else 0
    high = (binding.host_port_end or low) if low else 0
    return Wish(
        binding.protocol, binding.container_port, tuple(addresses), low, high, tuple(opened)
    )


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
                for key in _keys_of(settled):
                    free.pop(key, None)
    found = list(dict.fromkeys(kept[place] for place in range(len(wishes))))
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
    seen: dict[tuple[str, int, int], list[IPAddress]] = {}
    for each in wishes:
        if each.low != each.high or not each.low:
            continue
        for host in each.addresses:
            others = seen.setdefault((each.protocol, each.low, host.version), [])
            if any(host == other or _ALL[host.version] in (host, other) for other in others):
                where = f"[{host}]" if host.version == 6 else str(host)
                raise PortTaken(f"Bind for {where}:{each.low} failed: port is already allocated")
            others.append(host)


def _keys_of(each: Wish) -> list[Key]:
    return [(each.protocol, _text(host), each.low) for host in each.addresses]


def _key(binding: PortBinding) -> Key:
    return binding.protocol, _text(binding.host_ip or _ALL[4]), binding.host_port


def keys(bindings: Iterable[PortBinding]) -> list[Key]:
    """What the helper holds for these."""
    return [_key(binding) for binding in bindings if binding.host_port]


# elements


def members(bindings: Iterable[PortBinding], container: Container) -> Iterator[Member]:
    """What the routed table holds of an endpoint's ports."""
    bindings = list(bindings)
    yield from _translated(bindings, container)
    yield from _opened(bindings, container)


def _translated(bindings: Iterable[PortBinding], container: Container) -> Iterator[Member]:
    shifted: list[tuple[PortBinding, IPAddress, IPAddress]] = []
    straight: dict[tuple[str, IPAddress, IPAddress], list[int]] = {}
    for binding in bindings:
        host = binding.host_ip
        target = container.leads_by(host) if host is not None and binding.host_port else None
        if host is None or target is None:
            continue
        if binding.host_port == binding.container_port:
            straight.setdefault((binding.protocol, host, target), []).append(binding.host_port)
        else:
            shifted.append((binding, host, target))
    for binding, host, target in shifted:
        key = _lookup(binding.protocol, host, str(binding.host_port))
        yield Member(f"ports_{_place(host)}", key, f"{_text(target)} . {binding.container_port}")
    for (protocol, host, target), ports in straight.items():
        for low, high in _runs(ports):
            if low == high:
                key = _lookup(protocol, host, str(low))
                yield Member(f"ports_{_place(host)}", key, f"{_text(target)} . {low}")
            else:
                key = _lookup(protocol, host, f"{low}-{high}")
                yield Member(f"ranges_{_place(host)}", key, _text(target))


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


def _lookup(protocol: str, host: IPAddress, port: str) -> str:
    return f"{protocol} . {port}" if host in _EVERYWHERE else f"{protocol} . {_text(host)} . {port}"


def _runs(ports: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring ports as a range, if they are many; others each by itself."""
    ordered = sorted(set(ports))
    for _, group in groupby(enumerate(ordered), key=lambda item: item[1] - item[0]):
        run = [port for _, port in group]
        if len(run) >= _RANGE_FROM:
            yield run[0], run[-1]
        else:
            yield from ((port, port) for port in run)
