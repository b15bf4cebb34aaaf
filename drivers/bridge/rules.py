"""The constant part of the bridge driver's nft tables: sets, maps and chains. Pure data.

What each is for stands in its comment, and why it is so in firewall.py; the whole text as the
kernel holds it, in docs/firewall.md.
"""

from __future__ import annotations

import re
from dataclasses import replace

from cnm.runtime.kernel.nft import Chain, Map, Rule, Set

# Interface groups of our veths: "CNM" and two flags. Below 2**31, where deletions have theirs.
GROUP_BASE = 0x434E4D00
GUARDED = 1
ICC_OFF = 2

# Packet mark of what br_netfilter translates within a bridge: it is switched from port to port, and
# known there by nothing else. It ends at the container, since no mark leaves a namespace by a veth.
_SENT_BACK = "0x434e4d00"

SETS = (
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
    Set("hairpin", ("ifname",) * 2, comment="the same twice: bridges of networks with ports"),
    *(
        Set(
            f"open{ranges}_{family}",
            ("inet_proto", f"{family}_addr", "inet_service"),
            comment="published ports of containers that are reached without translation",
            flags=("interval",) if ranges else (),
        )
        for family in ("ipv4", "ipv6")
        for ranges in ("", "_ranges")
    ),
)


def _published(family: str) -> tuple[Map, ...]:
    """Where host ports lead. Exact addresses are looked up before "all of the host's".

    A range that is not shifted is one element, whose value is the address alone: the port
    stays. Elements with intervals cost 4.6 ms among 10,000, others 0.05, so they are apart.
    """
    address, service = f"{family}_addr", "inet_service"
    return (
        Map(
            f"ports_{family}",
            ("inet_proto", address, service),
            (address, service),
            comment=ONE,
            counter=True,
        ),
        Map(
            f"ports_any_{family}",
            ("inet_proto", service),
            (address, service),
            comment=ANY,
            counter=True,
        ),
        Map(
            f"ranges_{family}",
            ("inet_proto", address, service),
            (address,),
            comment=f"{ONE}; the port stays",
            flags=("interval",),
            counter=True,
        ),
        Map(
            f"ranges_any_{family}",
            ("inet_proto", service),
            (address,),
            comment=f"{ANY}; the port stays",
            flags=("interval",),
            counter=True,
        ),
    )


ONE = "ports published on one address of the host"
ANY = "ports published on all addresses of the host"

MAPS = (
    Map("source_ipv4", ("ifname",), ("ipv4_addr",), comment="leave with a chosen address"),
    Map("source_ipv6", ("ifname",), ("ipv6_addr",), comment="leave with a chosen address"),
    *_published("ipv4"),
    *_published("ipv6"),
)


def _on_shared(text: str, comment: str) -> tuple[Rule, ...]:
    """A rule for each family about our subnets on bridges of others."""
    families = (("ip", "shared_ipv4"), ("ip6", "shared_ipv6"))
    return tuple(Rule(text.format(*family), comment) for family in families)


def _to_container(family: str, header: str) -> tuple[Rule, ...]:
    target = f"dnat {header} to meta l4proto"
    return (
        Rule(f"{target} . {header} daddr . th dport map @ports_{family}", "one address's port"),
        Rule(f"{target} . th dport map @ports_any_{family}", "the same port of all addresses"),
        Rule(f"{target} . {header} daddr . th dport map @ranges_{family}", "one of its ranges"),
        Rule(f"{target} . th dport map @ranges_any_{family}", "a range of all addresses"),
    )


def _open(family: str, header: str) -> tuple[Rule, ...]:
    key = f"meta l4proto . {header} daddr . th dport"
    return (
        Rule(f"{key} @open_{family} accept", "a published port"),
        Rule(f"{key} @open_ranges_{family} accept", "one of a published range"),
    )


_ROUTED = (
    Chain(
        "loopback",
        (
            Rule('iifname != "lo" ip saddr 127.0.0.0/8 drop', "nobody outside is this host"),
            Rule('iifname != "lo" ip daddr 127.0.0.0/8 drop', "loopback is reached from here only"),
        ),
        type="filter",
        hook="prerouting",
        priority="raw",
        policy="accept",
    ),
    Chain(
        "published",
        (
            Rule(
                "ip6 daddr { ::1, fe80::/10 } return", "no way back: the port helper serves these"
            ),
            *_to_container("ipv4", "ip"),
            *_to_container("ipv6", "ip6"),
        ),
    ),
    Chain(
        "prerouting",
        (Rule("fib daddr type local goto published", "sent to this host, not through it"),),
        type="nat",
        hook="prerouting",
        priority="dstnat",
        policy="accept",
    ),
    Chain(
        "output",
        (Rule("fib daddr type local goto published", "from this host to itself"),),
        type="nat",
        hook="output",
        priority="-100",
        policy="accept",
    ),
    Chain("open", (*_open("ipv4", "ip"), *_open("ipv6", "ip6"))),
    Chain(
        "direct",
        (
            Rule("meta l4proto { icmp, ipv6-icmp } accept", "container addresses answer ping"),
            Rule("jump open", "ports that are published"),
            Rule("drop", "ports that are not published"),
        ),
    ),
    Chain(
        "to_network",
        (
            Rule("iifname . oifname @same_network accept", "containers of one network"),
            Rule(
                f"iifname . oifname @hairpin ct status dnat meta mark set {_SENT_BACK} accept",
                "ICC off: a neighbour's port by the host's address",
            ),
            Rule("oifname @internal drop", "internal: nobody comes in"),
            Rule("iifname @internal drop", "internal: nobody goes out"),
            Rule("ct state established,related accept", "answers"),
            Rule("ct state invalid drop", "belongs to no connection"),
            Rule("ct status dnat accept", "sent here by a port that is published"),
            Rule("meta nfproto . oifname @routed jump open", "mode routed: ports are published so"),
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
            Rule(
                "ct status dnat iifname . oifname @hairpin masquerade",
                "back into the network it came from: answers must come back here",
            ),
            Rule(
                "ct status dnat iif 0 fib saddr type != local "
                "oifname . oifname @hairpin masquerade",
                "the same, bridged by br_netfilter: where it came from is not told then",
            ),
            Rule(
                "ip saddr 127.0.0.0/8 oifname . oifname @hairpin masquerade",
                "no container can answer 127.0.0.1",
            ),
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
    return "{ " + ", ".join(str(GROUP_BASE | flag) for flag in flags) + " }"


_WITH_GUARD = _groups(GUARDED, GUARDED | ICC_OFF)
_WITHOUT_ICC = _groups(ICC_OFF, GUARDED | ICC_OFF)

_SWITCHED = (
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
        (
            Rule(
                f"iifgroup {_WITHOUT_ICC} oifgroup {_WITHOUT_ICC} meta mark != {_SENT_BACK} drop",
                "ICC off",
            ),
        ),
        type="filter",
        hook="forward",
        priority="10",  # after br_netfilter, which is at -1 and shows frames to the other table
        policy="accept",
    ),
)


def _counting(chain: Chain) -> Chain:
    """Rules that decide count it; those that look a port up leave that to its element."""
    counted = (replace(rule, counter=not _GOES_ON.search(rule.text)) for rule in chain.rules)
    return replace(chain, rules=tuple(counted))


_GOES_ON = re.compile(r"\b(goto|jump) \S+$|^[ds]nat .* map @")
ROUTED_CHAINS = tuple(_counting(chain) for chain in _ROUTED)
SWITCHED_CHAINS = tuple(_counting(chain) for chain in _SWITCHED)
