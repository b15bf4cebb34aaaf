"""Namespaces to stand for hosts, sandboxes and peers, and drivers in them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

from kernel.namespaces import Namespace, delete_namespace
from patience import patient

from cnm import driverapi
from cnm.daemon.wiring import WithoutForwarding
from cnm.driverapi import DriverContext
from cnm.drivers.bridge import portprotocol
from cnm.drivers.bridge.driver import BridgeDriver
from cnm.runtime.kernel import resident
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
    PortBinding,
    SandboxKey,
)

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


@dataclass(frozen=True)
class Place:
    """A namespace that stands for a host, sandbox or peer, and other people's tools in it."""

    namespace: Namespace

    @property
    def key(self) -> SandboxKey:
        """What a driver is told of it."""
        return SandboxKey(self.namespace.path)

    def delete(self) -> None:
        """Take it away before the test ends."""
        delete_namespace(self.namespace)

    def sh(self, command: str) -> str:
        """A command line inside; its standard output."""
        return self.namespace.run("sh", "-c", command)

    def ip(self, arguments: str) -> list[dict[str, Any]]:
        """What ``ip -j -d`` says."""
        return self.namespace.ip("-d", *arguments.split())

    def link(self, name: str) -> dict[str, Any]:
        """One link, as ``ip`` shows it."""
        return self.ip(f"link show dev {name}")[0]

    def link_names(self) -> set[str]:
        """Of all links but loopback."""
        return {item["ifname"] for item in self.ip("link show")} - {"lo"}

    def addresses(self, name: str) -> set[str]:
        """Addresses of a link but those that the kernel makes."""
        return self.namespace.addresses(name)

    def pings(self, target: str, *, size: int = 56) -> bool:
        """Whether one of three unfragmented echo requests with ``size`` bytes is answered."""
        command = f"ping -n -q -c 3 -i 0.05 -W 1 -M do -s {size} {target}"
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace.name, *command.split()],
            capture_output=True,
            timeout=patient(30),
        )
        return done.returncode == 0

    def snapshot(self) -> dict[str, str]:
        """All that a driver could have left here."""
        links = [
            {key: item.get(key) for key in ("ifname", "mtu", "ifalias", "master", "address")}
            for item in self.ip("link show")
        ]
        addresses = [
            f"{item['ifname']} {info['local']}/{info['prefixlen']}"
            for item in self.ip("addr show")
            for info in item["addr_info"]
            if not (info["scope"] == "link" and info["family"] == "inet6")
        ]
        return {
            "links": json.dumps(links),
            "addresses": "\n".join(sorted(addresses)),
            "rules": self.sh("nft -s list ruleset"),
            "sysctls": self.sh(f"sysctl {' '.join(FORWARDING)}"),
        }


PlaceFactory = Callable[[], Place]


@dataclass(frozen=True)
class Host(Place):
    """The place that the test's own thread is in, and so the drivers that it makes."""

    ledger: Ledger = field(default_factory=Ledger)
    drivers: list[Any] = field(default_factory=list)
    exec_root: str = field(default_factory=lambda: tempfile.mkdtemp(prefix="cnmt-"))

    def load(
        self, name: str, options: Mapping[str, str] | None = None, *, forwarding: bool = True
    ) -> Any:
        """A driver as the daemon makes it: by its entry point, and knowing of no network."""
        (entry,) = entry_points(group=driverapi.ENTRY_POINT_GROUP, name=name)
        sysctls = HostSysctls(self.ledger)
        settings = sysctls if forwarding else WithoutForwarding(sysctls)
        context = DriverContext(settings, options or {}, exec_root=self.exec_root)
        return self.owns(entry.load()(context))

    def bridge(
        self, options: Mapping[str, str] | None = None, *, forwarding: bool = True
    ) -> BridgeDriver:
        """The bridge driver, newly started. ``forwarding``: it may switch that on."""
        driver = self.load("bridge", options, forwarding=forwarding)
        assert isinstance(driver, BridgeDriver)
        return driver

    def owns(self, driver: Any) -> Any:
        """A driver that is closed with the host."""
        self.drivers.append(driver)
        return driver

    def close(self) -> None:
        """Close the drivers, and end the port helper that they share, if there is one."""
        for driver in self.drivers:
            if hasattr(driver, "close"):
                driver.close()
        pid = self.port_helper()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.exec_root, ignore_errors=True)  # some tests close it themselves

    def port_helper(self) -> int | None:
        """Its process, found as a daemon finds it."""
        try:
            link = resident.connect(portprotocol.place(self.exec_root))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        with link:
            found = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("=iII", found)[0])


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
    sandbox: Place
    interface_name: str
    join: Any

    def state(self, *, gone: bool = False, ports: Sequence[PortBinding] = ()) -> EndpointState:
        key = None if gone else self.sandbox.key
        return EndpointState(
            self.endpoint_id, self.interface, key, self.interface_name, ports=tuple(ports)
        )

    @property
    def host_link(self) -> str:
        return f"veth{self.endpoint_id[:7]}"


def attach(
    driver: BridgeDriver,
    spec: NetworkSpec,
    sandbox: Place,
    *addresses: str,
    name: str = "eth0",
    mac: str | None = None,
    configure: bool = True,
) -> Attached:
    """Join a sandbox and give it its addresses and default routes, with ``ip``."""
    endpoint_id = EndpointID(new_id())
    chosen = driver.create_endpoint(spec.id, endpoint_id, interface(*addresses, mac=mac), {})
    join = driver.join(spec.id, endpoint_id, sandbox.key, name, {})
    if join.mark:
        sandbox.sh(f"ip link set dev {name} alias {join.mark}")
    if configure:
        configure_inside(sandbox, name, addresses)
        for gateway in filter(None, (join.gateway, join.gateway_ipv6)):
            sandbox.sh(f"ip route add default via {gateway} dev {name}")
    return Attached(spec.id, endpoint_id, chosen, sandbox, name, join)


def configure_inside(sandbox: Place, name: str, addresses: tuple[str, ...]) -> None:
    """What the sandbox does after a join."""
    for address in addresses:
        sandbox.sh(f"ip addr add {address} dev {name}{' nodad' if ':' in address else ''}")
    sandbox.sh(f"ip link set {name} up")
