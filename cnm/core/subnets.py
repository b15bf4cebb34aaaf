"""Checks of what a user asks of subnets, before anything is leased. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_network

from cnm.errors import Forbidden, InvalidParameter
from cnm.hostapi import HostRoute
from cnm.types import IPAddress, IpamConfig, IPNetwork, Network, NetworkSpec

# RFC 6890: addresses that no container can have
_UNUSABLE = (
    (ip_network("0.0.0.0/8"), "this network"),
    (ip_network("127.0.0.0/8"), "loopback addresses"),
    (ip_network("224.0.0.0/4"), "multicast addresses"),
    (ip_network("::/127"), "unspecified and loopback addresses"),
    (ip_network("fe80::/10"), "link-local addresses"),
    (ip_network("ff00::/8"), "multicast addresses"),
)


def is_size_only(subnet: IPNetwork) -> bool:
    """``0.0.0.0/24``, ``::/64``: the user asks for a size, not for a place."""
    return int(subnet.network_address) == 0 and subnet.prefixlen > 0


def check_config(configs: Sequence[IpamConfig]) -> None:
    """Everything that is wrong with ``--subnet`` and its company, all of it at once.

    :raises InvalidParameter: Docker's ``invalid network config:`` and a line for each fault.
    """
    faults: list[str] = []
    for config in configs:
        faults += _faults(config)
    given = [
        config.subnet for config in configs if config.subnet and not is_size_only(config.subnet)
    ]
    for number, subnet in enumerate(given):
        for other in given[:number]:
            if subnet.overlaps(other):
                faults.append(f"subnet {subnet} overlaps subnet {other} of the same network")
    if faults:
        lines = faults if len(faults) == 1 else [f"* {fault}" for fault in faults]
        raise InvalidParameter("invalid network config:\n" + "\n".join(lines))


def check_families(configs: Sequence[IpamConfig], *, ipv4: bool, ipv6: bool) -> None:
    """:raises InvalidParameter: a subnet is of a family that the network does not have."""
    for config in configs:
        if config.subnet is None:
            continue
        if config.subnet.version == 6 and not ipv6:
            raise InvalidParameter(f"subnet {config.subnet} is IPv6: add --ipv6")
        if config.subnet.version == 4 and not ipv4:
            raise InvalidParameter(f"subnet {config.subnet} is IPv4, and IPv4 is off")


def _faults(config: IpamConfig) -> list[str]:
    subnet = config.subnet
    if subnet is None:
        if config.ip_range or config.gateway or config.aux_addresses:
            return ["every ip-range, gateway or auxiliary address must have a corresponding subnet"]
        return []
    if subnet.prefixlen == subnet.max_prefixlen:
        return [f"invalid subnet {subnet}: too small, it has no room for a gateway and a container"]
    if is_size_only(subnet):
        if config.ip_range or config.gateway or config.aux_addresses:
            return [
                f"subnet {subnet} asks for a size only: no ip-range, gateway or address fits it"
            ]
        return []
    for block, what in _UNUSABLE:
        if subnet.version == block.version and subnet.overlaps(block):
            return [f"invalid subnet {subnet}: it overlaps {block}, {what}"]
    faults = []
    if config.ip_range is not None and not _contains_range(subnet, config.ip_range):
        faults.append(
            f"invalid ip-range {config.ip_range}: parent subnet {subnet} doesn't contain ip-range"
        )
    if config.gateway is not None:
        faults += _address_faults(subnet, f"gateway {config.gateway}", config.gateway)
    for name, address in config.aux_addresses.items():
        faults += _address_faults(subnet, f"auxiliary address {name}", address)
    return faults


def _contains_range(subnet: IPNetwork, ip_range: IPNetwork) -> bool:
    return ip_range.prefixlen >= subnet.prefixlen and ip_range.network_address in subnet


def _address_faults(subnet: IPNetwork, what: str, address: IPAddress) -> list[str]:
    if address not in subnet:
        return [f"invalid {what}: parent subnet {subnet} doesn't contain this address"]
    if subnet.version == 6 or subnet.prefixlen >= subnet.max_prefixlen - 1:
        return []
    if address == subnet.network_address:
        return [f"invalid {what}: it is the network address of {subnet}"]
    if address == subnet.broadcast_address:
        return [f"invalid {what}: it is the broadcast address of {subnet}"]
    return []


def refuse_overlap(subnet: IPNetwork, networks: Iterable[Network | NetworkSpec]) -> None:
    """:raises Forbidden: Docker's text, with the network that holds the subnet."""
    for network in networks:
        for pool in network.ipv4 + network.ipv6:
            if pool.pool.prefixlen == 0:
                continue  # the null IPAM's: it holds no addresses
            if pool.pool.version == subnet.version and pool.pool.overlaps(subnet):
                raise Forbidden(
                    "invalid pool request: Pool overlaps with other one on this address space: "
                    f"{subnet} overlaps {pool.pool} of network {network.name}"
                )


def refuse_routed(subnet: IPNetwork, routes: Iterable[HostRoute], own_devices: set[str]) -> None:
    """:raises Forbidden: the host routes part of the subnet elsewhere (the route is named)."""
    for route in routes:
        if route.device not in own_devices and overlaps_route(subnet, route):
            raise Forbidden(
                f"invalid pool request: subnet {subnet} overlaps a route of this host ({route}): "
                "choose another --subnet, or remove the route"
            )


def overlaps_route(subnet: IPNetwork, route: HostRoute) -> bool:
    """Whether traffic for the subnet could take this route.

    Default routes in two halves (``0.0.0.0/1`` and ``128.0.0.0/1``, as VPN clients
    set them) count as default routes, hence as no conflict.
    """
    destination = route.destination
    if subnet.prefixlen == 0:
        return False
    if destination.version != subnet.version or destination.prefixlen <= 1:
        return False
    return destination.overlaps(subnet)
