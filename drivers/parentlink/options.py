"""Options of networks on a parent link: strings in, frozen values out.

Keys are Docker's. An unknown key below ``com.docker.network.``, or one of the other such
driver, is refused by name, and so is a slip of a key; keys of others stay in the network's record
and mean nothing here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cnm import labels
from cnm.errors import InvalidParameter
from cnm.runtime.kernel.netlink import Upper
from cnm.types import NetworkSpec

VLAN_MIN, VLAN_MAX = 1, 4094  # IEEE 802.1Q, 9.6: 0 and 4095 are reserved

# Keys that the core or the plugin protocol writes beside the user's options, or reads itself.
_WIRE_KEYS = frozenset(
    {
        labels.GENERIC,
        labels.ENABLE_IPV4,
        labels.ENABLE_IPV6,
        labels.INTERNAL,
        labels.CONTAINER_IFACE_PREFIX,
    }
)
_ENDPOINT_WIRE_KEYS = frozenset(
    {
        labels.ENDPOINT_IFNAME,
        labels.ENDPOINT_MAC,
        labels.ENDPOINT_EXPOSED_PORTS,
        labels.ENDPOINT_DNS_SERVERS,
        labels.PORT_MAP,
    }
)
_ALIKE = 0.8  # of 1: one letter of six wrong, left out or twice
_RELATED = ("macvlan_", "ipvlan_", labels.HOST_ACCESS)


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """Options of one network, checked.

    ``parent``: empty: an isolated one of our own. ``mode``: as the user says it. ``mtu``
    ``None``: the parent's. ``routed``: containers send what is not theirs to the device
    itself, without a gateway. ``own_macs``: each of their links has a MAC address of its own.
    """

    upper: Upper
    mode: str
    parent: str = ""
    mtu: int | None = None
    host_access: bool = False
    routed: bool = False
    own_macs: bool = True


Parser = Callable[[str, str], object]


def read(
    network: NetworkSpec, defaults: Mapping[str, str], driver: str, own: Mapping[str, Parser]
) -> dict[str, Any]:
    """What a network's options say, over the daemon's defaults, by key: only what is given.

    ``own``: the driver's own keys and their parsers.

    :raises InvalidParameter: naming the key.
    """
    known: dict[str, Parser] = {labels.PARENT: _parent, labels.MTU: _mtu, **own}
    found: dict[str, Any] = {}
    for key, text in {**defaults, **network.options}.items():
        if key in known:
            found[key] = known[key](key, str(text))
        elif _is_mistake(key, _WIRE_KEYS):
            raise InvalidParameter(f"unknown option {key} for driver {driver}")
        elif meant := _meant(key, known):
            raise InvalidParameter(
                f"unknown option {key} for driver {driver}: did you mean {meant}?"
            )
    if found.get(labels.PARENT) == "lo":
        raise InvalidParameter(f"loopback interface is not a valid {driver} parent link")
    mtu = found.get(labels.MTU)
    if network.enable_ipv6 and mtu is not None and mtu < labels.MTU_MIN_IPV6:
        raise InvalidParameter(
            f'invalid value "{mtu}" for option {labels.MTU}: '
            f"IPv6 needs {labels.MTU_MIN_IPV6} at least"
        )
    return found


def check_endpoint(texts: Mapping[str, Any], driver: str) -> None:
    """:raises InvalidParameter: an endpoint has an option that nobody understands."""
    for key in texts:
        if _is_mistake(key, _ENDPOINT_WIRE_KEYS):
            raise InvalidParameter(f"unknown option {key} for driver {driver}")


def split_vlan(name: str) -> tuple[str, int]:
    """Parent and VLAN of ``eth0.100``.

    ``eth0.0100`` is refused, which Docker makes: a second name for one VLAN, of which the kernel
    has one link.

    :raises InvalidParameter: with Docker's texts.
    """
    if "." not in name:
        raise InvalidParameter(
            f"invalid subinterface vlan name {name}, example formatting is eth0.10"
        )
    parts = name.split(".")
    if len(parts) != 2:
        raise InvalidParameter(
            "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead "
            f"received {name}"
        )
    parent, text = parts
    if not parent or not text:
        raise InvalidParameter(
            f"invalid subinterface vlan name {name}, example formatting is eth0.10"
        )
    if not (text.isascii() and text.isdigit() and str(int(text)) == text):
        raise InvalidParameter(
            f"unable to parse a valid vlan id from: {text} (ex. eth0.10 for vlan 10)"
        )
    vlan = int(text)
    if not VLAN_MIN <= vlan <= VLAN_MAX:
        raise InvalidParameter(f"vlan id must be between {VLAN_MIN}-{VLAN_MAX}, received: {vlan}")
    return parent, vlan


def _is_mistake(key: str, written: frozenset[str]) -> bool:
    return key.startswith((f"{labels.PREFIX}.", *_RELATED)) and key not in written


def _meant(key: str, known: Iterable[str]) -> str:
    """Which of our keys that have no dot it is a slip of; empty: it is somebody else's.

    ``parnt=eth0`` would otherwise make a network that leads nowhere.
    """
    own = [name for name in known if "." not in name]
    found = [name for name in own if name.endswith(f"_{key}")]
    found += difflib.get_close_matches(key.lower(), own, 1, _ALIKE)
    return found[0] if found else ""


def _parent(key: str, text: str) -> str:
    return labels.parse_ifname(key, text) if text else ""


def _mtu(key: str, text: str) -> int | None:
    """0 means "not said", as Docker's."""
    return None if text == "0" else labels.parse_int(key, text, labels.MTU_MIN, labels.MTU_MAX)
