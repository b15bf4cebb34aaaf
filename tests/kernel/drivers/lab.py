"""Namespaces to stand for hosts, sandboxes and peers, and drivers in them."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any, TypeVar

from cnm import driverapi
from cnm.driverapi import DriverContext
from cnm.runtime.kernel.netns import NetNS
from cnm.runtime.kernel.sysctl import HostSysctls
from cnm.types import (
    EndpointID,
    EndpointInterface,
    EndpointState,
    IpamPool,
    IPInterface,
    NetworkID,
    NetworkSpec,
    PoolID,
    SandboxKey,
)

T = TypeVar("T")

FORWARDING = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")


class Ledger:
    """A SysctlLedger that lives as long as the test."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[str, str]] = {}

    def remembered(self) -> dict[str, tuple[str, str]]:
        return dict(self._values)

    def remember(self, name: str, old: str, new: str) -> None:
        self._values.setdefault(name, (old, new))

    def forget(self, name: str) -> None:
        self._values.pop(name, None)


@dataclass
class Namespace:
    """A named network namespace: ours to enter, and other people's tools to look at."""

    name: str
    entered: NetNS
    ledger: Ledger = field(default_factory=Ledger)
    drivers: list[Any] = field(default_factory=list)

    @property
    def key(self) -> SandboxKey:
        return SandboxKey(f"/run/netns/{self.name}")

    def run(self, call: Callable[..., T], *args: Any) -> T:
        """On a thread inside."""
        return self.entered.run(lambda: call(*args))

    def owns(self, driver: Any) -> OnHost:
        """A driver of this namespace, closed with it."""
        self.drivers.append(driver)
        return OnHost(self, driver)

    def close(self) -> None:
        """Close what the test holds of it."""
        for driver in self.drivers:
            if hasattr(driver, "close"):
                driver.close()
        self.entered.close()

    def sh(self, command: str, *, check: bool = True) -> str:
        """A command line inside; its standard output."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, "sh", "-c", command],
            capture_output=True,
            text=True,
            timeout=30,
        )
        if check and done.returncode:
            raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def ip(self, arguments: str) -> list[dict[str, Any]]:
        """What ``ip -j -d`` says."""
        text = self.sh(f"ip -j -d {arguments}")
        return [item for item in json.loads(text or "[]") if item]

    def link(self, name: str) -> dict[str, Any]:
        """One link, as ``ip`` shows it."""
        return self.ip(f"link show dev {name}")[0]

    def addresses(self, name: str) -> set[str]:
        """Global addresses of a link."""
        return {
            f"{item['local']}/{item['prefixlen']}"
            for item in self.ip(f"addr show dev {name}")[0]["addr_info"]
            if item["scope"] == "global"
        }

    def pings(self, target: str, *, size: int = 56, source: str = "") -> bool:
        """Whether one of three echo requests is answered."""
        where = f"-I {source}" if source else ""
        command = f"ping -n -q -c 3 -i 0.05 -W 1 -M do -s {size} {where} {target}"
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command.split()], capture_output=True, timeout=30
        )
        return done.returncode == 0

    def snapshot(self) -> dict[str, str]:
        """All that a driver could have left here."""
        links = [
            {key: item.get(key) for key in ("ifname", "mtu", "ifalias", "master", "address")}
            for item in self.ip("link show")
        ]
        addresses = [
            (item["ifname"], info["local"], info["prefixlen"])
            for item in self.ip("addr show")
            for info in item["addr_info"]
        ]
        return {
            "links": json.dumps(links),
            "addresses": json.dumps(addresses),
            "rules": self.sh("nft list ruleset"),
            "sysctls": self.sh(f"sysctl {' '.join(FORWARDING)}"),
        }


NamespaceFactory = Callable[[], Namespace]


def remove_namespace(name: str) -> None:
    """Gone is fine: some tests take it away themselves."""
    subprocess.run(["ip", "netns", "delete", name], capture_output=True)


class OnHost:
    """A driver whose calls all run in the host's namespace, as the daemon's do."""

    def __init__(self, host: Namespace, driver: Any) -> None:
        self._host = host
        self.driver = driver

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.driver, name)
        if not callable(found):
            return found
        return lambda *args, **kwargs: self._host.run(lambda: found(*args, **kwargs))


def load_driver(host: Namespace, name: str, options: Mapping[str, str] | None = None) -> OnHost:
    """A driver as the daemon makes it: through its entry point, knowing of no network."""
    (entry,) = entry_points(group=driverapi.ENTRY_POINT_GROUP, name=name)
    context = DriverContext(HostSysctls(host.ledger), options or {})
    return host.owns(host.run(entry.load(), context))


def new_id() -> str:
    """Of a network or an endpoint."""
    return secrets.token_hex(32)


def pool(text: str) -> IpamPool:
    """A pool with its gateway: ``10.1.0.1/24``."""
    gateway = ip_interface(text)
    return IpamPool(PoolID(text), "local", gateway.network, gateway)


def network(
    *pools: str,
    options: Mapping[str, str] | None = None,
    name: str = "blue",
    internal: bool = False,
    network_id: str = "",
) -> NetworkSpec:
    """A network with these pools. Options without ``com.docker.network.``."""
    found = [pool(text) for text in pools or ("10.77.0.1/24",)]
    ipv4 = tuple(item for item in found if item.pool.version == 4)
    ipv6 = tuple(item for item in found if item.pool.version == 6)
    return NetworkSpec(
        NetworkID(network_id or new_id()),
        name,
        enable_ipv4=bool(ipv4),
        enable_ipv6=bool(ipv6),
        internal=internal,
        options={f"com.docker.network.{key}": value for key, value in (options or {}).items()},
        ipv4=ipv4,
        ipv6=ipv6,
    )


def interface(*addresses: str, mac: str | None = None) -> EndpointInterface:
    """Of an endpoint with these addresses."""
    found: list[IPInterface] = [ip_interface(text) for text in addresses]
    ipv4 = next((item for item in found if isinstance(item, IPv4Interface)), None)
    ipv6 = next((item for item in found if isinstance(item, IPv6Interface)), None)
    return EndpointInterface(ipv4, ipv6, mac)


@dataclass
class Attached:
    """An endpoint that joined, and what is needed to restore it."""

    network_id: NetworkID
    endpoint_id: EndpointID
    interface: EndpointInterface
    sandbox: Namespace
    interface_name: str
    join: Any

    def state(self, *, gone: bool = False) -> EndpointState:
        key = None if gone else self.sandbox.key
        return EndpointState(self.endpoint_id, self.interface, key, self.interface_name)

    @property
    def host_link(self) -> str:
        return f"veth{self.endpoint_id[:7]}"


def attach(
    driver: OnHost,
    spec: NetworkSpec,
    sandbox: Namespace,
    *addresses: str,
    name: str = "eth0",
    mac: str | None = None,
    configure: bool = True,
) -> Attached:
    """Join a sandbox and give it its addresses and default routes, with ``ip``."""
    endpoint_id = EndpointID(new_id())
    chosen = driver.create_endpoint(spec.id, endpoint_id, interface(*addresses, mac=mac), {})
    join = driver.join(spec.id, endpoint_id, sandbox.key, name, {})
    if configure:
        configure_inside(sandbox, name, addresses)
        for gateway in filter(None, (join.gateway, join.gateway_ipv6)):
            sandbox.sh(f"ip route add default via {gateway} dev {name}")
    return Attached(spec.id, endpoint_id, chosen, sandbox, name, join)


def configure_inside(sandbox: Namespace, name: str, addresses: tuple[str, ...]) -> None:
    """What the sandbox does after a join."""
    for address in addresses:
        sandbox.sh(f"ip addr add {address} dev {name}{' nodad' if ':' in address else ''}")
    sandbox.sh(f"ip link set {name} up")
