"""Published ports: the elements that lead to them, and that nobody else can have them.

Of the store's side by the API, of the kernel's by ``nft`` and by trying to bind.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from livedaemon import run
from peers.cnmd import Cnmd

Facts = dict[str, Any]

WATCHED = (5005, 5006)  # the ports that the verbs publish
_BIND = """
import socket, sys
for port in map(int, sys.argv[1:]):
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with socket.socket(family) as one:
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                one.bind((address, port))
            except OSError:
                print(f"{address} {port}")
"""


def expected(daemon: Cnmd, networks: list[Facts]) -> Facts:
    """Each published port once in a map and once as a socket; the containers are dual-stack."""
    elements, held = [], []
    for name in daemon.containers:
        document = daemon.api.call("GET", f"/containers/{name}/json")
        addresses = _addresses(networks, name)
        for private, bindings in (document["NetworkSettings"]["Ports"] or {}).items():
            for binding in bindings or ():
                held.append(f"{binding['HostIp']} {binding['HostPort']}")
                family = "ipv6" if ":" in binding["HostIp"] else "ipv4"
                port, _, protocol = private.partition("/")
                key = f"{protocol} . {binding['HostPort']}"
                elements.append(f"ports_any_{family}: {key} : {addresses[family]} . {port}")
    return {"elements of ports": sorted(elements), "held ports": sorted(held)}


def actual(namespace: str) -> Facts:
    command = ("ip", "netns", "exec", namespace, "nft", "-j", "list", "ruleset")
    items = json.loads(run(*command).stdout)["nftables"]
    maps = [item["map"] for item in items if "map" in item]
    found = [
        f"{item['name']}: {_joined(key)} : {_joined(value)}"
        for item in maps
        if item["name"].startswith("ports_")
        for key, value in item.get("elem", [])
    ]
    words = [str(port) for port in WATCHED]
    bound = run("ip", "netns", "exec", namespace, sys.executable, "-c", _BIND, *words).stdout
    return {"elements of ports": sorted(found), "held ports": sorted(bound.splitlines())}


def _addresses(networks: list[Facts], name: str) -> dict[str, str]:
    for network in networks:
        for row in network["Containers"].values():
            if row["Name"] == name:
                both = {"ipv4": row["IPv4Address"], "ipv6": row["IPv6Address"]}
                return {family: address.partition("/")[0] for family, address in both.items()}
    return {}


def _joined(item: Any) -> str:
    if "elem" in item:  # with its counter
        item = item["elem"]["val"]
    return " . ".join(map(str, item["concat"]))
