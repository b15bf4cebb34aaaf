"""A host on a LAN: its link ``lan0``, and at the other end of the wire a peer's ``eth0``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from typing import Any

from kernel.drivers.lab import Attached, Host, Place, configure_inside, interface, network, new_id

from cnm.types import EndpointID, IpamPool, NetworkSpec, PoolID

PARENT = "lan0"
HOST = ("10.7.0.1/24", "fd07::1/64")
PEER = ("10.7.0.9/24", "fd07::9/64")
POOLS = ("10.7.0.254/24", "fd07::fe/64")  # by the gateway's address


def wired(host: Host, peer: Place, *, addresses: Iterable[str] = HOST) -> None:
    """Put the wire up; without IPv6's try whether an address is free, which takes a second."""
    host.sh(
        f"ip link add {PARENT} type veth peer name eth0 netns {peer.namespace.name};"
        f"ip link set {PARENT} up; ip -n {peer.namespace.name} link set eth0 up"
    )
    for address in addresses:
        host.sh(f"ip address add {address} dev {PARENT}{_nodad(address)}")
    for address in PEER:
        peer.sh(f"ip address add {address} dev eth0{_nodad(address)}")


def lan(
    *pools: str,
    parent: str = PARENT,
    gateway: bool = False,
    reserved: str = "",
    internal: bool = False,
    name: str = "blue",
    options: Mapping[str, str] | None = None,
    **short: str,
) -> NetworkSpec:
    """A network on the LAN. ``reserved``: the auxiliary address that is the host's.

    ``options``, and those that can be written as words of Python, are the network's.
    """
    spec = network(*(pools or POOLS[:1]), name=name, internal=internal)
    texts = {**({"parent": parent} if parent else {}), **(options or {}), **short}
    return replace(
        spec,
        options=texts,
        ipv4=tuple(_pool(item, gateway, reserved) for item in spec.ipv4),
        ipv6=tuple(_pool(item, gateway, "") for item in spec.ipv6),
    )


@dataclass
class Station(Attached):
    """A container on the LAN."""

    @property
    def mac(self) -> str:
        """As the kernel has it."""
        return str(self.sandbox.link(self.interface_name)["address"])


def attach(driver: Any, spec: NetworkSpec, sandbox: Place, *addresses: str) -> Station:
    """Join a sandbox and configure it with ``ip``."""
    endpoint_id = EndpointID(new_id())
    chosen = driver.create_endpoint(spec.id, endpoint_id, interface(*addresses), {})
    join = driver.join(spec.id, endpoint_id, sandbox.key, "eth0", {})
    configure_inside(sandbox, "eth0", addresses)
    return Station(spec.id, endpoint_id, chosen, sandbox, "eth0", join)


def _pool(item: IpamPool, gateway: bool, reserved: str) -> IpamPool:
    aux = {"host": ip_interface(reserved)} if reserved else {}
    return IpamPool(
        PoolID(str(item.pool)),
        "local",
        item.pool,
        item.gateway if gateway else None,
        aux,
    )


def _nodad(address: str) -> str:
    return " nodad" if ":" in address else ""
