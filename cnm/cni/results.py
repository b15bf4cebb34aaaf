"""Results in the form of the version that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnm.cni import conf
from cnm.cni.errors import INVALID_CONFIG, CniError
from cnm.cni.invocation import SUPPORTED, Invocation

_FAMILY_DROPPED = SUPPORTED.index("1.0.0")  # "version" of an address is gone from there on
_EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


def of_add(call: Invocation, attached: Mapping[str, Any]) -> dict[str, Any]:
    """What ADD prints: what was there before in the chain, and ours behind it."""
    before = previous(call) or {}
    interfaces = [*before.get("interfaces", [])]
    number = len(interfaces)
    interfaces.append(
        {"name": attached["Interface"], "mac": attached["Mac"], "sandbox": call.netns}
    )
    ips = [_address(call, item, number) for item in attached["Addresses"]]
    routes = [{"dst": _EVERYWHERE[_family(gw)], "gw": gw} for gw in attached["DefaultRoutes"]]
    routes += [_route(item) for item in attached["Routes"]]
    return {
        "cniVersion": call.version,
        "interfaces": interfaces,
        "ips": [*before.get("ips", []), *ips],
        "routes": [*before.get("routes", []), *routes],
        "dns": _dns(call, attached["Nameservers"]),
    }


def previous(call: Invocation) -> Mapping[str, Any] | None:
    """``prevResult``, as far as its lists are lists of objects.

    :raises CniError: they are not.
    """
    given = call.conf.get("prevResult")
    if given is None:
        return None
    found: Mapping[str, Any] = call.object("prevResult")
    for key in ("interfaces", "ips", "routes"):
        items = found.get(key) or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise CniError(INVALID_CONFIG, f"invalid prevResult: {key} must have objects")
    return {key: value for key, value in found.items() if value is not None}


def _address(call: Invocation, item: Mapping[str, str], interface: int) -> dict[str, Any]:
    told: dict[str, Any] = {"address": item["Address"], "interface": interface}
    if SUPPORTED.index(call.version) < _FAMILY_DROPPED:
        told["version"] = str(_family(item["Address"]))
    return {**told, "gateway": item["Gateway"]} if item["Gateway"] else told


def _route(item: Mapping[str, str]) -> dict[str, str]:
    told = {"dst": item["Destination"]}
    return {**told, "gw": item["Gateway"]} if item["Gateway"] else told


def _dns(call: Invocation, resolver: list[str]) -> dict[str, Any]:
    """The resolver in the container where it serves names; it asks the given servers itself."""
    domain, search, options = conf.search(call)
    told = {
        "nameservers": resolver or conf.name_servers(call),
        "domain": domain,
        "search": search,
        "options": options,
    }
    return {key: value for key, value in told.items() if value}


def _family(address: str) -> int:
    return 6 if ":" in address else 4
