"""Pairs subnets with the ranges, gateways and auxiliary addresses that lie in them.

The rules and error texts are Docker's: a range, gateway or auxiliary address belongs
to the subnet that contains its address; whether it fits there is for the daemon to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from cnm.cli.errors import CommandError

Address = IPv4Address | IPv6Address


def pools(
    subnets: Sequence[str],
    ranges: Sequence[str],
    gateways: Sequence[str],
    auxiliary: Mapping[str, str],
) -> list[dict[str, object]]:
    """The ``IPAM.Config`` of a request, in the order of the subnets.

    :raises CommandError: when something does not belong to exactly one subnet.
    """
    if len(subnets) < len(ranges) or len(subnets) < len(gateways):
        raise CommandError("every ip-range or gateway must have a corresponding subnet")
    _refuse_overlaps(subnets)
    pool_of: dict[str, dict[str, object]] = {subnet: {"Subnet": subnet} for subnet in subnets}
    for text in ranges:
        subnet = _subnet_of(text, _cidr_address(text), subnets, "range")
        _set_once(pool_of[subnet], "IPRange", text, "ranges ({}, {}) on", subnet)
    for text in gateways:
        subnet = _subnet_of(text, _address(text), subnets, "gateway")
        _set_once(pool_of[subnet], "Gateway", text, "gateways ({}, {}) for", subnet)
    for name, text in auxiliary.items():
        subnet = _subnet_of(text, _address(text), subnets, "aux-address")
        addresses = pool_of[subnet].setdefault("AuxiliaryAddresses", {})
        if isinstance(addresses, dict):
            addresses[name] = text
    return list(pool_of.values())


def _refuse_overlaps(subnets: Sequence[str]) -> None:
    """A lone subnet is not looked at: the daemon says better what is wrong with it."""
    for place, subnet in enumerate(subnets):
        for other in subnets[:place]:
            if _contains(other, _cidr_address(subnet, "invalid subnet: ")) or _contains(
                subnet, _cidr_address(other, "invalid subnet: ")
            ):
                raise CommandError("multiple overlapping subnet configuration is not supported")


def _subnet_of(text: str, address: Address | None, subnets: Sequence[str], what: str) -> str:
    for subnet in subnets:
        if _contains(subnet, address):
            return subnet
    raise CommandError(f"no matching subnet for {what} {text}")


def _set_once(pool: dict[str, object], key: str, text: str, conflict: str, subnet: str) -> None:
    if key in pool:
        both = conflict.format(text, pool[key])
        raise CommandError(f"cannot configure multiple {both} the same subnet ({subnet})")
    pool[key] = text


def _contains(subnet: str, address: Address | None) -> bool:
    _cidr_address(subnet, "invalid subnet: ")
    network = ip_network(subnet, strict=False)
    return address is not None and address.version == network.version and address in network


def _cidr_address(text: str, context: str = "") -> Address:
    """The address before the slash of a CIDR."""
    address, slash, _ = text.partition("/")
    try:
        ip_network(text, strict=False)
        if slash:
            return ip_address(address)
    except ValueError:
        pass
    raise CommandError(f"{context}invalid CIDR address: {text}")


def _address(text: str) -> Address | None:
    """An address, with or without prefix; None for what is none, which no subnet contains."""
    if "/" in text:
        return _cidr_address(text)
    try:
        return ip_address(text)
    except ValueError:
        return None
