"""The rules of all bridge networks as data: policies in, nft tables and batches out. Pure.

The rules are the same whatever the number of networks; what a network is allowed stands
in sets and maps, hash tables keyed by the bridge's name (an interval set costs 4.6 ms per
element when it is large, a hash set 0.05). Making or removing a network is one batch of
elements.

Table ``inet cnm-bridge``, what is routed:

- *forward* looks only at packets that leave by, or come from, a bridge of ours. Within a
  network all is accepted (not with ICC off), an internal network meets nobody else, and
  networks of ours do not meet one another. From outside, in mode ``nat`` only answers and
  what a DNAT rule sent here come in; ``nat-unprotected`` lets everything in; ``routed``
  and what arrives by a trusted interface may reach a container's own address, but, as in
  Docker 28, only on published ports and with ICMP: the chain *direct*.
- *postrouting* gives what leaves a network for the world the host's address, by the
  bridge where it came in (the kernel tells that there since 5.6): sets of subnets would
  need intervals.

A bridge that the administrator had before is shared with him: there only our subnets are
ours, which stand in small interval sets; all else on it is neither kept out nor translated.

Where we switched forwarding on, interfaces that were there before and did not forward
still do not among themselves, so that the host does not become a router by the way. What
was made later, as by another engine, routes as the administrator of that wants.

With ``net.bridge.bridge-nf-call-iptables`` frames between two ports of a bridge pass
these chains too, arriving and leaving by the bridge; the first rule is for them. A
bridge with ICC off and a physical port of the administrator's is then cut off from that
port, as with Docker.

Table ``bridge cnm-bridge``, what is switched between ports: no ICC, and no router
advertisements from containers (CVE-2020-13401). It knows ports by their interface group,
which each veth of ours gets when it is made (``port_group``): no elements at all, and it
works without br_netfilter. ``meta ibrname`` was left because it is an optional module of the
kernel that not all have; ``ct``, which would tell what br_netfilter translated and switches from
port to port, because it is another: those packets carry a mark (rules.py); bridge port isolation
because it has no exceptions, which ``--link`` will need.

Published ports are elements too (portmap.py): what is sent to an address of the host, and to
no other (*prerouting*, *output*: ``fib daddr type local``, or we would take transit traffic), is
looked up by protocol, address and port in four maps and sent on to a container. What comes back
into the network where it came from, and what has a loopback address, gets the bridge's address;
everybody else keeps his own. 127.0.0.0/8 is dropped where it arrives from outside (*loopback*):
our bridges route it, and a port published there is for this host alone.

``--link`` will add its accepted pairs before the rules for ICC in both tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from cnm.drivers.bridge import rules
from cnm.drivers.bridge.options import GatewayMode, NetworkOptions
from cnm.runtime.kernel.nft import Batch, Map, Set, Table
from cnm.types import IPAddress, IPNetwork, NetworkSpec

TABLE = "cnm-bridge"
ROUTED_FAMILY = "inet"
SWITCHED_FAMILY = "bridge"


@dataclass(frozen=True, slots=True)
class FamilyPolicy:
    """What one address family of a network is allowed."""

    mode: GatewayMode
    masquerade: bool
    source: IPAddress | None = None  # None: the address of the interface it leaves by


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """What one network is allowed. ``None``: it has no such family."""

    bridge: str
    icc: bool = True
    internal: bool = False
    ipv4: FamilyPolicy | None = None
    ipv6: FamilyPolicy | None = None
    trusted: tuple[str, ...] = ()
    shared: tuple[IPNetwork, ...] | None = None  # our subnets, if the bridge is somebody else's


class Member(NamedTuple):
    """An element of a set, or with a value of a map, as nft writes it."""

    set: str
    key: str
    value: str | None = None


def member(set_name: str, text: str) -> Member:
    """An element of that set or map, from its text."""
    key, _, value = text.partition(" : ")
    return Member(set_name, key, value or None)


def policy(
    network: NetworkSpec, options: NetworkOptions, bridge: str, *, adopted: bool
) -> NetworkPolicy:
    """What a network with these options is allowed. ``adopted``: the bridge is not ours."""
    ipv4 = FamilyPolicy(options.mode_ipv4, options.masquerade, options.host_ipv4)
    ipv6 = FamilyPolicy(options.mode_ipv6, options.masquerade, options.host_ipv6)
    return NetworkPolicy(
        bridge,
        options.icc,
        network.internal,
        ipv4 if network.enable_ipv4 else None,
        ipv6 if network.enable_ipv6 else None,
        options.trusted_interfaces,
        tuple(item.pool for item in (*network.ipv4, *network.ipv6)) if adopted else None,
    )


def port_group(*, guarded: bool, icc: bool) -> int:
    """Interface group of a container's port; 0, everybody's, if nothing is forbidden it."""
    flags = (rules.GUARDED if guarded else 0) | (0 if icc else rules.ICC_OFF)
    return rules.GROUP_BASE | flags if flags else 0


def members(network: NetworkPolicy) -> Iterator[Member]:
    """All that the routed table holds of a network."""
    bridge = _quoted(network.bridge)
    if network.shared is None:
        yield Member("bridges", bridge)
    else:
        yield Member("shared", bridge)
        for subnet in network.shared:
            yield Member(f"shared_ipv{subnet.version}", f"{bridge} . {subnet}")
    if network.icc:
        yield Member("same_network", f"{bridge} . {bridge}")
    if network.internal:
        yield Member("internal", bridge)
        return
    yield Member("hairpin", f"{bridge} . {bridge}")
    if network.ipv4 is not None:
        yield from _family_members("ipv4", bridge, network.ipv4)
    if network.ipv6 is not None:
        yield from _family_members("ipv6", bridge, network.ipv6)
    for interface in network.trusted:
        yield Member("trusted", f"{_quoted(interface)} . {bridge}")


def _family_members(family: str, bridge: str, allowed: FamilyPolicy) -> Iterator[Member]:
    if allowed.mode is GatewayMode.ROUTED:
        yield Member("routed", f"{family} . {bridge}")
        return
    if allowed.mode is GatewayMode.NAT_UNPROTECTED:
        yield Member("unprotected", f"{family} . {bridge}")
    if allowed.masquerade and allowed.source is not None:
        yield Member(f"source_{family}", bridge, str(allowed.source))
    elif allowed.masquerade:
        yield Member("masqueraded", f"{family} . {bridge}")


def guard(interfaces: Iterable[tuple[str, str]]) -> tuple[Member, ...]:
    """Keep the host from routing between these interfaces (family and name)."""
    found = []
    for family, name in interfaces:
        if not any(c in '"*\\' for c in name):  # nft has no way to write these
            interface = _quoted(name)
            found.append(Member("not_forwarding", f"{family} . {interface}"))
            found.append(Member("one_interface", f"{interface} . {interface}"))
    return tuple(dict.fromkeys(found))


def routed_table(content: Iterable[Member]) -> Table:
    """Table ``inet cnm-bridge`` with these elements."""
    held = list(content)
    return Table(
        ROUTED_FAMILY,
        TABLE,
        sets=tuple(
            replace(kind, elements=tuple(item.key for item in held if item.set == kind.name))
            for kind in rules.SETS
        ),
        maps=tuple(
            replace(
                kind,
                elements=tuple(
                    (item.key, item.value) for item in held if item.set == kind.name and item.value
                ),
            )
            for kind in rules.MAPS
        ),
        chains=rules.ROUTED_CHAINS,
    )


def switched_table() -> Table:
    """Table ``bridge cnm-bridge``: always the same."""
    return Table(SWITCHED_FAMILY, TABLE, sets=(), maps=(), chains=rules.SWITCHED_CHAINS)


def change(gone: Iterable[Member], new: Iterable[Member]) -> Batch:
    """The batch that removes elements from the routed table and adds others, in this order."""
    batch = Batch(ROUTED_FAMILY, TABLE, kinds=_KINDS)
    for item in gone:
        batch.remove(item.set, item.key, item.value)
    for item in new:
        batch.add(item.set, item.key, item.value)
    return batch


_ALL_KINDS: tuple[Set | Map, ...] = (*rules.SETS, *rules.MAPS)
_KINDS = {kind.name: kind for kind in _ALL_KINDS}


def set_names() -> tuple[str, ...]:
    """Sets and maps of the routed table."""
    return (*(kind.name for kind in rules.SETS), *(kind.name for kind in rules.MAPS))


def _quoted(interface: str) -> str:
    return f'"{interface}"'
