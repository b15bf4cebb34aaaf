"""A network's configuration made into what the daemon is asked for.

Keys of ours beside the specification's: ``network`` (one that exists), or what ``net create``
would be told: ``driver``, ``subnet``, ``gateway``, ``ipRange``, ``subnets`` (a list of objects
of those three), ``ipv4``, ``ipv6``, ``internal``, ``mtu``, ``options``, ``labels``; and
``gwPriority``, ``host`` (the daemon's socket). Others are refused: most are misspelt.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from cnm.cni.errors import INVALID_CONFIG, UNSUPPORTED_FIELD, CniError
from cnm.cni.invocation import Invocation

_SPECIFIED = {"cniVersion", "name", "type", "args", "dns", "runtimeConfig", "prevResult"}
_SPECIFIED |= {"capabilities", "cniVersions", "disableCheck", "disableGC"}
_CREATING = {
    *("driver", "subnet", "gateway", "ipRange", "subnets", "ipv4", "ipv6"),
    *("internal", "mtu", "options", "labels"),
}
_OURS = {"network", "gwPriority", "host", *_CREATING}
_TEXTS = ("network", "driver", "subnet", "gateway", "ipRange", "host")
_SWITCHES = ("ipv4", "ipv6", "internal")
_NUMBERS = ("mtu", "gwPriority")


def check(call: Invocation) -> None:
    """:raises CniError: a key that means nothing here, or a value of another kind."""
    conf = call.conf
    for key, value in conf.items():
        if key not in _SPECIFIED | _OURS and not key.startswith("cni.dev/"):
            raise CniError(UNSUPPORTED_FIELD, f"unsupported field {key} in network config: {value}")
    if "network" in conf and (extra := _CREATING & conf.keys()):
        raise _invalid(f"network names one that exists; {', '.join(sorted(extra))} would make one")
    for keys, kind, what in (
        (_TEXTS, str, "a text"),
        (_SWITCHES, bool, "true or false"),
        (_NUMBERS, int, "a number"),
    ):
        for key in keys:
            if key in conf and type(conf[key]) is not kind:
                raise _invalid(f"{key} must be {what}")


def network(call: Invocation) -> tuple[dict[str, Any], bool]:
    """The network, as ``POST /networks/create`` has it, and whether it must be there."""
    conf = call.conf
    if "network" in conf:
        return {"Name": conf["network"]}, True
    body: dict[str, Any] = {
        "Name": call.network,
        "Driver": conf.get("driver", "bridge"),
        "Internal": conf.get("internal", False),
        "IPAM": {"Config": [_pool(item) for item in _pools(call)]},
        "Options": dict(_texts(call, "options")),
        "Labels": dict(_texts(call, "labels")),
    }
    for key, name in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if key in conf:
            body[name] = conf[key]
    return body, False


def endpoint(call: Invocation) -> dict[str, Any]:
    """Addresses, MAC and aliases, as ``connect`` has them."""
    wanted: dict[str, str] = {}
    for text in _addresses(call):
        try:
            address = ipaddress.ip_interface(text).ip
        except ValueError:
            raise _invalid(f'"{text}" is no IP address') from None
        key = f"IPv{address.version}Address"
        if key in wanted:
            raise _invalid(f"two addresses of one family: {wanted[key]} and {address}")
        wanted[key] = str(address)
    return {
        "IPAMConfig": wanted,
        "MacAddress": _runtime_text(call, "mac") or (call.arguments or {}).get("MAC", ""),
        "Aliases": list(dict.fromkeys(_aliases(call))),
        "GwPriority": call.conf.get("gwPriority", 0),
    }


def port_bindings(call: Invocation) -> dict[str, list[dict[str, str]]]:
    """``runtimeConfig.portMappings``, as Docker's ``PortBindings``."""
    found: dict[str, list[dict[str, str]]] = {}
    for item in _list(call.object("runtimeConfig"), "portMappings", "runtimeConfig."):
        if not isinstance(item, dict):
            raise _invalid("runtimeConfig.portMappings must have objects")
        host, inner = item.get("hostPort"), item.get("containerPort")
        if type(host) is not int or type(inner) is not int:
            raise _invalid("runtimeConfig.portMappings: hostPort and containerPort are numbers")
        if host == 0:
            continue  # by convention a port that is not published (Kubernetes)
        key = f"{inner}/{str(item.get('protocol') or 'tcp').lower()}"
        binding = {"HostIp": str(item.get("hostIP") or ""), "HostPort": str(host)}
        found.setdefault(key, []).append(binding)
    return found


def name_servers(call: Invocation) -> list[str]:
    """Who is asked for names that are not ours: the runtime's word goes first."""
    runtime = call.object("runtimeConfig").get("dns")
    if isinstance(runtime, dict) and runtime.get("servers"):
        return _strings(runtime, "servers", "runtimeConfig.dns.")
    return _strings(call.object("dns"), "nameservers", "dns.")


def search(call: Invocation) -> tuple[str, list[str], list[str]]:
    """Domain, search list and options of the container's resolv.conf."""
    runtime = call.object("runtimeConfig").get("dns")
    own = runtime if isinstance(runtime, dict) else {}
    given = call.object("dns")
    domain = given.get("domain", "")
    return (
        domain if isinstance(domain, str) else "",
        _strings(own, "searches", "runtimeConfig.dns.") or _strings(given, "search", "dns."),
        _strings(own, "options", "runtimeConfig.dns.") or _strings(given, "options", "dns."),
    )


def _pools(call: Invocation) -> Iterable[Mapping[str, Any]]:
    single = {key: call.conf[key] for key in ("subnet", "gateway", "ipRange") if key in call.conf}
    several = _list(call.conf, "subnets", "")
    if single and several:
        raise _invalid("subnet and subnets exclude each other")
    return [single] if single else several


def _pool(item: Mapping[str, Any]) -> dict[str, str]:
    names = {"subnet": "Subnet", "gateway": "Gateway", "ipRange": "IPRange"}
    if not isinstance(item, dict) or not item.keys() <= names.keys():
        raise _invalid("subnets must have objects of subnet, gateway and ipRange")
    if not all(isinstance(value, str) for value in item.values()):
        raise _invalid("subnet, gateway and ipRange must be texts")
    return {names[key]: value for key, value in item.items()}


def _addresses(call: Invocation) -> list[str]:
    """The runtime's, else those of ``args``, else of the environment (``IP=``)."""
    arguments = call.object("args").get("cni")
    return (
        _strings(call.object("runtimeConfig"), "ips", "runtimeConfig.")
        or _strings(arguments if isinstance(arguments, dict) else {}, "ips", "args.cni.")
        or [text for text in (call.arguments or {}).get("IP", "").split(",") if text]
    )


def _aliases(call: Invocation) -> Iterable[str]:
    """The container's name as its runtime has it, and what it asks for; Podman by network."""
    pod = (call.arguments or {}).get("K8S_POD_NAME")
    if pod:
        yield pod
    given = call.object("runtimeConfig").get("aliases")
    if isinstance(given, dict):
        yield from _strings(given, call.network, "runtimeConfig.aliases.")
    else:
        yield from _strings(call.object("runtimeConfig"), "aliases", "runtimeConfig.")


def _runtime_text(call: Invocation, key: str) -> str:
    value = call.object("runtimeConfig").get(key) or ""
    if not isinstance(value, str):
        raise _invalid(f"runtimeConfig.{key} must be a text")
    return value


def _texts(call: Invocation, key: str) -> Mapping[str, str]:
    found = call.object(key)
    if not all(isinstance(value, str) for value in found.values()):
        raise _invalid(f"{key} must have texts only")
    return found


def _strings(holder: Mapping[str, Any], key: str, path: str) -> list[str]:
    found = _list(holder, key, path)
    if not all(isinstance(item, str) for item in found):
        raise _invalid(f"{path}{key} must have texts only")
    return found


def _list(holder: Mapping[str, Any], key: str, path: str) -> list[Any]:
    value = holder.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _invalid(f"{path}{key} must be a list")
    return value


def _invalid(message: str) -> CniError:
    return CniError(INVALID_CONFIG, f"invalid network config: {message}")
