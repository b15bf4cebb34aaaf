"""Is the kernel what the store says? Judged by ``ip``, ``nft``, ``dig`` and SQLite, not by us.

The expectation is built from the documents that the API shows (the store's view), the
facts from the machine's own tools and the database file's leases.
"""

from __future__ import annotations

import ipaddress
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from livedaemon import run
from peers.cnmd import Cnmd
from torture import names, ports

Facts = dict[str, Any]


def differences(daemon: Cnmd) -> list[str]:
    """What differs between store and kernel, one line each."""
    rows = daemon.api.call("GET", "/networks")
    networks = [daemon.api.call("GET", f"/networks/{row['Id']}") for row in rows]
    networks = [network for network in networks if network["Driver"] == "bridge"]
    told, found = expected_host(networks), actual_host(daemon.netns)
    told |= ports.expected(daemon, networks)
    found |= ports.actual(daemon.netns)
    told["leases"] = expected_leases(networks)
    found["leases"] = actual_leases(daemon)
    lines = list(compare("host", told, found))
    for name, namespace in daemon.containers.items():
        lines += compare(name, expected_container(networks, name), actual_container(namespace))
        lines += names.differences(networks, name, namespace)
    return lines


def expected_host(networks: list[Facts]) -> Facts:
    return {
        "bridges": {
            bridge_name(network): {
                "addresses": sorted(_gateways(network)),
                "ports": len(network["Containers"]),
            }
            for network in networks
        },
        "other links": ["lo"],
        "routes": sorted(
            config["Subnet"] for network in networks for config in network["IPAM"]["Config"]
        ),
        "sets of rules": expected_sets(networks),
    }


def expected_sets(networks: list[Facts]) -> dict[str, list[str]]:
    """The elements that stand for networks without special options; other sets are empty."""
    names = {bridge_name(network): network for network in networks}
    outside = [(name, network) for name, network in names.items() if not network["Internal"]]
    return {
        "bridges": sorted(names),
        "same_network": sorted(f"{name} . {name}" for name in names),
        # into an internal network no port leads
        "hairpin": sorted(f"{name} . {name}" for name, _ in outside),
        "internal": sorted(name for name, network in names.items() if network["Internal"]),
        "masqueraded": sorted(
            [f"ipv4 . {name}" for name, _ in outside]
            + [f"ipv6 . {name}" for name, network in outside if network["EnableIPv6"]]
        ),
    }


def actual_host(namespace: str) -> Facts:
    links = tell("ip", "-n", namespace, "-j", "-d", "address", "show")
    kind = {link["ifname"]: link.get("linkinfo", {}).get("info_kind", "") for link in links}
    bridges = [link for link in links if kind[link["ifname"]] == "bridge"]
    rest = [link for link in links if kind[link["ifname"]] != "bridge"]
    ports = [link.get("master") for link in rest if kind[link["ifname"]] == "veth"]
    found: dict[str, Facts] = {
        bridge["ifname"]: {
            "addresses": sorted(_global(bridge)),
            "ports": ports.count(bridge["ifname"]),
        }
        for bridge in bridges
    }
    on_bridges = [link for link in rest if link.get("master") in found]
    return {
        "bridges": found,
        "other links": sorted(link["ifname"] for link in rest if link not in on_bridges),
        "routes": sorted(_routes(namespace)),
        "sets of rules": _sets(namespace),
    }


def expected_container(networks: list[Facts], name: str) -> Facts:
    own = [
        (network, row)
        for network in networks
        for row in network["Containers"].values()
        if row["Name"] == name
    ]
    return {
        "interfaces": sorted(
            [row["MacAddress"], *sorted(filter(None, (row["IPv4Address"], row["IPv6Address"])))]
            for _, row in own
        ),
        "default route": any(not network["Internal"] for network, _ in own),
    }


def actual_container(namespace: str) -> Facts:
    links = tell("ip", "-n", namespace, "-j", "address", "show")
    default = tell("ip", "-n", namespace, "-j", "route", "show", "default")
    return {
        "interfaces": sorted(
            [link["address"], *sorted(_global(link))] for link in links if link["ifname"] != "lo"
        ),
        "default route": bool(default),
    }


def expected_leases(networks: list[Facts]) -> list[str]:
    rows = [row for network in networks for row in network["Containers"].values()]
    held = [row[family] for row in rows for family in ("IPv4Address", "IPv6Address")]
    held += [gateway for network in networks for gateway in _gateways(network)]
    return sorted(address.split("/")[0] for address in held if address)


def actual_leases(daemon: Cnmd) -> list[str]:
    """Straight from the file, as the next daemon would read it."""
    return leases_of(daemon.root / "cnm.db")


def leases_of(path: Path) -> list[str]:
    """Of a database's file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT address FROM leases").fetchall()
    return sorted(str(ipaddress.ip_address(address)) for (address,) in rows)


def bridge_name(network: Facts) -> str:
    """As the naming scheme says: the option, or ``br-`` and the id's first 12 digits."""
    named = network["Options"].get("com.docker.network.bridge.name")
    return str(named or f"br-{network['Id'][:12]}")


def _gateways(network: Facts) -> Iterator[str]:
    for config in network["IPAM"]["Config"]:
        length = config["Subnet"].split("/")[1]
        yield f"{config['Gateway']}/{length}"


def _global(link: Facts) -> Iterator[str]:
    for item in link["addr_info"]:
        if item["scope"] == "global":
            yield f"{item['local']}/{item['prefixlen']}"


def _routes(namespace: str) -> Iterator[str]:
    for family in ("-4", "-6"):
        for route in tell("ip", "-n", namespace, "-j", family, "route", "show"):
            if not route["dst"].startswith("fe80:"):
                yield route["dst"]


def _sets(namespace: str) -> dict[str, list[str]]:
    """Elements by set; empty sets are left out, but for the one that is expected, too."""
    command = ("ip", "netns", "exec", namespace, "nft", "-j", "list", "ruleset")
    items = json.loads(run(*command).stdout)["nftables"]
    found = [item[kind] for item in items for kind in ("set", "map") if kind in item]
    return {
        item["name"]: sorted(map(_element, item.get("elem", [])))
        for item in found
        if (item.get("elem") or item["name"] == "internal")
        and not item["name"].startswith("ports_")  # see torture.ports
    }


def _element(item: Any) -> str:
    return " . ".join(item["concat"]) if isinstance(item, dict) else str(item)


def compare(where: str, told: Facts, found: Facts) -> Iterator[str]:
    """A line for each fact that is not as it was told."""
    for key, value in told.items():
        if value != found[key]:
            yield f"{where}: {key}: the store says {value}, the kernel has {found[key]}"


def tell(*command: str) -> Any:
    """What a command prints, decoded."""
    return json.loads(run(*command).stdout or "[]")
