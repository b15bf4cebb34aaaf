"""The bridge driver's options: strings in, frozen values out.

Keys are Docker's. An unknown key below ``com.docker.network.`` is refused by name, since
it is a misspelling or asks for what this driver does not do; keys of others stay as they
are in the network's record and mean nothing here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from cnm import labels
from cnm.errors import InvalidParameter
from cnm.types import IPAddress, NetworkSpec

_LAST_INTERFACE = 999

# Keys that the core or the plugin protocol writes beside the user's options.
_NETWORK_WIRE_KEYS = frozenset(
    {labels.GENERIC, labels.ENABLE_IPV4, labels.ENABLE_IPV6, labels.INTERNAL}
)
_ENDPOINT_WIRE_KEYS = frozenset(
    {
        labels.ENDPOINT_MAC,
        labels.ENDPOINT_EXPOSED_PORTS,
        labels.ENDPOINT_DNS_SERVERS,
        labels.PORT_MAP,
    }
)
_NOT_SUPPORTED = frozenset(
    {labels.ADVERTISE_NMSGS, labels.ADVERTISE_INTERVAL_MS, labels.ENDPOINT_SYSCTLS}
)


class GatewayMode(enum.StrEnum):
    """How a network's containers are reached from outside, for one family."""

    NAT = "nat"
    NAT_UNPROTECTED = "nat-unprotected"
    ROUTED = "routed"
    ISOLATED = "isolated"


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """Options of one network, checked. ``None``: not said."""

    bridge_name: str | None = None
    default_bridge: bool = False
    icc: bool = True
    masquerade: bool = True
    inhibit_ipv4: bool = False
    mode_ipv4: GatewayMode = GatewayMode.NAT
    mode_ipv6: GatewayMode = GatewayMode.NAT
    mtu: int | None = None
    host_ipv4: IPv4Address | None = None  # source address of what leaves the host
    host_ipv6: IPv6Address | None = None
    host_binding: IPAddress | None = None  # for publishing: where ports are bound by default
    trusted_interfaces: tuple[str, ...] = ()
    interface_prefix: str = "eth"


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """Options of one endpoint, checked. ``None``: not said."""

    interface_name: str | None = None


def parse_network(network: NetworkSpec, defaults: Mapping[str, str]) -> NetworkOptions:
    """A network's options over the daemon's defaults, and whether they agree with it.

    :raises InvalidParameter: naming the key.
    """
    texts = {**defaults, **network.options}
    options = NetworkOptions(**_parse(texts, _NETWORK_KEYS, _NETWORK_WIRE_KEYS))
    if network.enable_ipv6 and options.mtu is not None and options.mtu < labels.MTU_MIN_IPV6:
        raise InvalidParameter(
            f'invalid value "{options.mtu}" for option {labels.MTU}: '
            f"IPv6 needs {labels.MTU_MIN_IPV6} at least"
        )
    if GatewayMode.ISOLATED in (options.mode_ipv4, options.mode_ipv6) and not network.internal:
        raise InvalidParameter("gateway mode 'isolated' can only be used for an internal network")
    if options.default_bridge and options.bridge_name is None:
        raise InvalidParameter(f"{labels.BRIDGE_DEFAULT} needs {labels.BRIDGE_NAME}")
    return options


def parse_endpoint(texts: Mapping[str, Any]) -> EndpointOptions:
    """An endpoint's options.

    :raises InvalidParameter: naming the key.
    """
    return EndpointOptions(**_parse(texts, _ENDPOINT_KEYS, _ENDPOINT_WIRE_KEYS))


Parser = Callable[[str, str], object]


def _parse(
    texts: Mapping[str, Any], known: Mapping[str, tuple[str, Parser]], ignored: frozenset[str]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, text in texts.items():
        if key in _NOT_SUPPORTED:
            raise InvalidParameter(f"not supported yet: option {key}")
        if key in known:
            name, parser = known[key]
            found[name] = parser(key, str(text))
        elif key.startswith(f"{labels.PREFIX}.") and key not in ignored:
            raise InvalidParameter(f"unknown option {key} for driver bridge")
    return found


def _ifname(key: str, text: str) -> str | None:
    """Empty means "not said", as in Docker's records."""
    return labels.parse_ifname(key, text) if text else None


def _host_ifname(key: str, text: str) -> str | None:
    """As above, for names that go into nft's rules: there ``*`` is a wildcard, ``"`` an end."""
    name = _ifname(key, text)
    if any(c in '"*\\' for c in text):
        raise InvalidParameter(
            f'invalid interface name "{text}" for {key}: must have no ", * or \\'
        )
    return name


def _prefix(key: str, text: str) -> str:
    """A number is put behind it: a container's networks may be a thousand."""
    if not text:
        return "eth"
    labels.parse_ifname(key, f"{text}{_LAST_INTERFACE}")
    return text


def _mode(key: str, text: str) -> GatewayMode:
    try:
        return GatewayMode(text) if text else GatewayMode.NAT
    except ValueError:
        known = ", ".join(GatewayMode)
        raise InvalidParameter(
            f'invalid value "{text}" for option {key}: must be one of {known}'
        ) from None


def _mtu(key: str, text: str) -> int | None:
    """0 means "not said", as Docker's."""
    return None if text == "0" else labels.parse_int(key, text, labels.MTU_MIN, labels.MTU_MAX)


def _address(key: str, text: str) -> IPAddress | None:
    if not text:
        return None
    try:
        return ip_address(text)
    except ValueError:
        raise InvalidParameter(
            f'invalid value "{text}" for option {key}: must be an IP address'
        ) from None


def _source(key: str, text: str, version: int) -> IPAddress | None:
    address = _address(key, text)
    if address is not None and (address.version != version or address.is_unspecified):
        raise InvalidParameter(
            f'invalid value "{text}" for option {key}: must be an IPv{version} address of this host'
        )
    return address


def _source_ipv4(key: str, text: str) -> IPAddress | None:
    return _source(key, text, 4)


def _source_ipv6(key: str, text: str) -> IPAddress | None:
    return _source(key, text, 6)


def _interfaces(key: str, text: str) -> tuple[str, ...]:
    """Docker separates the names by colons."""
    names = (_host_ifname(key, name) for name in text.split(":"))
    return tuple(dict.fromkeys(name for name in names if name))


_NETWORK_KEYS: dict[str, tuple[str, Parser]] = {
    labels.BRIDGE_NAME: ("bridge_name", _host_ifname),
    labels.BRIDGE_DEFAULT: ("default_bridge", labels.parse_bool),
    labels.BRIDGE_ICC: ("icc", labels.parse_bool),
    labels.BRIDGE_MASQUERADE: ("masquerade", labels.parse_bool),
    labels.BRIDGE_HOST_BINDING_IPV4: ("host_binding", _address),
    labels.BRIDGE_INHIBIT_IPV4: ("inhibit_ipv4", labels.parse_bool),
    labels.BRIDGE_GATEWAY_MODE_IPV4: ("mode_ipv4", _mode),
    labels.BRIDGE_GATEWAY_MODE_IPV6: ("mode_ipv6", _mode),
    labels.BRIDGE_TRUSTED_HOST_INTERFACES: ("trusted_interfaces", _interfaces),
    labels.MTU: ("mtu", _mtu),
    labels.HOST_IPV4: ("host_ipv4", _source_ipv4),
    labels.HOST_IPV6: ("host_ipv6", _source_ipv6),
    labels.CONTAINER_IFACE_PREFIX: ("interface_prefix", _prefix),
}

_ENDPOINT_KEYS: dict[str, tuple[str, Parser]] = {
    labels.ENDPOINT_IFNAME: ("interface_name", _ifname),
}
