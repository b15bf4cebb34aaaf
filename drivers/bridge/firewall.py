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
kernel that not all have; bridge port isolation because it has no exceptions, which
``--link`` will need.

Publishing ports will add its chains (*prerouting*, *output*) and its accepts in *direct*
here; ``--link`` its accepted pairs before the rules for ICC in both tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from cnm.drivers.bridge.options import GatewayMode, NetworkOptions
from cnm.runtime.kernel.nft import Batch, Chain, Map, Rule, Set, Table
from cnm.types import IPAddress, IPNetwork, NetworkSpec

TABLE = "cnm-bridge"
ROUTED_FAMILY = "inet"
SWITCHED_FAMILY = "bridge"

# Interface groups of our veths: "CNM" and two flags. Below 2**31, where deletions have theirs.
_GROUP_BASE = 0x434E4D00
_GUARDED = 1
_ICC_OFF = 2


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
    flags = (_GUARDED if guarded else 0) | (0 if icc else _ICC_OFF)
    return _GROUP_BASE | flags if flags else 0


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
            for kind in _SETS
        ),
        maps=tuple(
            Map(
                name,
                key,
                value,
                tuple((item.key, item.value) for item in held if item.set == name and item.value),
                comment,
            )
            for name, key, value, comment in _MAPS
        ),
        chains=_ROUTED_CHAINS,
    )


def switched_table() -> Table:
    """Table ``bridge cnm-bridge``: always the same."""
    return Table(SWITCHED_FAMILY, TABLE, sets=(), maps=(), chains=_SWITCHED_CHAINS)


def change(gone: Iterable[Member], new: Iterable[Member]) -> Batch:
    """The batch that removes elements from the routed table and adds others, in this order."""
    batch = Batch(ROUTED_FAMILY, TABLE)
    for item in gone:
        batch.remove(item.set, item.key, item.value)
    for item in new:
        batch.add(item.set, item.key, item.value)
    return batch


def set_names() -> tuple[str, ...]:
    """Sets and maps of the routed table."""
    return (*(kind.name for kind in _SETS), *(name for name, *_ in _MAPS))


def _quoted(interface: str) -> str:
    return f'"{interface}"'


_SETS = (
    Set("bridges", ("ifname",), comment="the bridges of our networks"),
    Set("shared", ("ifname",), comment="bridges of others that networks of ours are on"),
    Set(
        "shared_ipv4",
        ("ifname", "ipv4_addr"),
        comment="our subnets on those: all that is ours there",
        flags=("interval",),
    ),
    Set(
        "shared_ipv6",
        ("ifname", "ipv6_addr"),
        comment="our subnets on those: all that is ours there",
        flags=("interval",),
    ),
    Set("same_network", ("ifname",) * 2, comment="containers of these may talk to each other"),
    Set("internal", ("ifname",), comment="networks without an outside"),
    Set(
        "routed",
        ("nf_proto", "ifname"),
        comment="container addresses are known outside: gateway mode routed",
    ),
    Set(
        "unprotected",
        ("nf_proto", "ifname"),
        comment="all ports are open: gateway mode nat-unprotected",
    ),
    Set("trusted", ("ifname",) * 2, comment="host interfaces that may reach a network directly"),
    Set(
        "masqueraded",
        ("nf_proto", "ifname"),
        comment="leave with the address of the outgoing interface",
    ),
    Set(
        "not_forwarding",
        ("nf_proto", "ifname"),
        comment="interfaces that did not forward before we switched forwarding on",
    ),
    Set(
        "one_interface",
        ("ifname",) * 2,
        comment="the same twice: frames within a bridge, if they are filtered",
    ),
)

_MAPS = (
    ("source_ipv4", ("ifname",), ("ipv4_addr",), "leave with a chosen address"),
    ("source_ipv6", ("ifname",), ("ipv6_addr",), "leave with a chosen address"),
)


def _on_shared(text: str, comment: str) -> tuple[Rule, ...]:
    """A rule for each family about our subnets on bridges of others."""
    families = (("ip", "shared_ipv4"), ("ip6", "shared_ipv6"))
    return tuple(Rule(text.format(*family), comment) for family in families)


_ROUTED_CHAINS = (
    Chain(
        "direct",
        (
            Rule("meta l4proto { icmp, ipv6-icmp } accept", "container addresses answer ping"),
            Rule("drop", "ports that are not published"),
        ),
    ),
    Chain(
        "to_network",
        (
            Rule("iifname . oifname @same_network accept", "containers of one network"),
            Rule("oifname @internal drop", "internal: nobody comes in"),
            Rule("iifname @internal drop", "internal: nobody goes out"),
            Rule("ct state established,related accept", "answers"),
            Rule("ct state invalid drop", "belongs to no connection"),
            Rule("ct status dnat accept", "sent here by a port that is published"),
            Rule("iifname @bridges drop", "networks are isolated from each other, ICC off"),
            *_on_shared("iifname . {} saddr @{} drop", "the same for bridges of others"),
            Rule("meta nfproto . oifname @unprotected accept", "mode nat-unprotected"),
            Rule("meta nfproto . oifname @routed goto direct", "mode routed"),
            Rule("iifname . oifname @trusted goto direct", "trusted interfaces"),
            Rule("drop", "container addresses are not reached from outside"),
        ),
    ),
    Chain(
        "from_network",
        (
            Rule("iifname @internal drop", "internal: nobody goes out"),
            Rule("ct state invalid drop", "would leave with a container's address"),
        ),
    ),
    Chain(
        "forward",
        (
            Rule("oifname @bridges goto to_network", "towards a network of ours"),
            *_on_shared("oifname . {} daddr @{} goto to_network", "the same, on another's bridge"),
            Rule("iifname @bridges goto from_network", "from a network of ours to the world"),
            *_on_shared("iifname . {} saddr @{} goto from_network", "the same, another's bridge"),
            Rule(
                "meta nfproto . iifname @not_forwarding meta nfproto . oifname @not_forwarding "
                "iifname . oifname != @one_interface ct state new,invalid,untracked drop",
                "no routing that was not there before us",
            ),
        ),
        type="filter",
        hook="forward",
        priority="filter",
        policy="accept",
    ),
    Chain(
        "postrouting",
        (
            Rule("oifname @bridges return", "no translation towards containers"),
            *_on_shared("oifname . {} daddr @{} return", "the same, on another's bridge"),
            *_on_shared(
                "iifname @shared iifname . {} saddr != @{} return", "others on another's bridge"
            ),
            Rule("snat ip to iifname map @source_ipv4", "IPv4, to the chosen address"),
            Rule("snat ip6 to iifname map @source_ipv6", "IPv6, to the chosen address"),
            Rule("meta nfproto . iifname @masqueraded masquerade", "to the host's address"),
        ),
        type="nat",
        hook="postrouting",
        priority="srcnat",
        policy="accept",
    ),
)


def _groups(*flags: int) -> str:
    return "{ " + ", ".join(str(_GROUP_BASE | flag) for flag in flags) + " }"


_WITH_GUARD = _groups(_GUARDED, _GUARDED | _ICC_OFF)
_WITHOUT_ICC = _groups(_ICC_OFF, _GUARDED | _ICC_OFF)

_SWITCHED_CHAINS = (
    Chain(
        "prerouting",
        (
            Rule(
                f"iifgroup {_WITH_GUARD} icmpv6 type {{ nd-router-advert, nd-redirect }} drop",
                "a container is no router",
            ),
        ),
        type="filter",
        hook="prerouting",
        priority="filter",
        policy="accept",
    ),
    Chain(
        "forward",
        (Rule(f"iifgroup {_WITHOUT_ICC} oifgroup {_WITHOUT_ICC} drop", "ICC off"),),
        type="filter",
        hook="forward",
        priority="filter",
        policy="accept",
    ),
)
