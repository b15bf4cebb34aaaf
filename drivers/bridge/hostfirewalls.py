"""Firewalls of others on this host: what they drop, and where our networks are accepted in them.

Known are iptables' tables (of the nft kind: Docker's, ufw's, an admin's own) and firewalld's.
Only what they do *by default* is looked at, and only there a jump of ours is put: in iptables'
``FORWARD`` at the end, where its policy is DROP; with ufw before the chains of its default; with
firewalld at the end of each zone that has the default target, before its ``reject``. What a rule,
a policy or the target of a zone refuses stays refused.

firewalld sorts by the interface where a packet comes in. Bridges of ours are in no zone, so in
the default zone, of which any target is mended: it is nobody's word about our networks. An
administrator who puts a bridge into ``drop`` or ``block`` has spoken, and is heard.

A firewalld that owns its table alone (``NftablesTableOwner``, since 2.1) lets nobody in: the
attempt fails and is logged, and ``net doctor`` tells.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cnm.drivers.bridge import firewall
from cnm.errors import KernelError
from cnm.runtime.kernel.nft import BaseChain, Hook, Nft

CHAIN = "CNM-FORWARD"
FILTER, FORWARD = "filter", "FORWARD"  # iptables(8)
IPTABLES = ("ip", "ip6")
_UFWS = ("jump ufw-", "jump ufw6-")
_UFWS_DEFAULT = tuple(f"{ufw}{end}-forward" for ufw in _UFWS for end in ("reject", "track"))
FIREWALLD = "firewalld"
_FAMILY = "inet"
FAMILIES = (*IPTABLES, _FAMILY)
_FORWARD, _ZONES = "filter_FORWARD", "filter_FORWARD_ZONES"
_ZONE = re.compile(r"(.*)goto filter_FWD_(\S+)")
_TABLES = (*((family, FILTER) for family in IPTABLES), (_FAMILY, FIREWALLD))
_REFUSALS = ("drop", "reject with icmpx admin-prohibited")
_ASKS_FOR_PING = re.compile(r"meta l4proto .*icmp.* accept")  # what the default target has


@dataclass(frozen=True, slots=True)
class Gate:
    """A table where our networks are to be accepted, and where a chain is jumped to for that."""

    family: str
    table: str
    hooks: tuple[Hook, ...]


@dataclass(frozen=True, slots=True)
class Barrier:
    """A chain of others that drops by default what passes its hook."""

    chain: BaseChain
    program: str  # whose it is, if that is known

    def __str__(self) -> str:
        place = f"table {self.chain.family} {self.chain.table}, chain {self.chain.name}"
        return f"{self.program} ({place})" if self.program else place

    @property
    def is_mended(self) -> bool:
        """Whether our networks are accepted there."""
        chain = self.chain
        if (chain.family, chain.table) == (_FAMILY, FIREWALLD):
            return chain.name == _FORWARD
        return (
            chain.family in IPTABLES
            and (chain.table, chain.name) == (FILTER, FORWARD)
            and chain.policy == "drop"
        )


def barriers(nft: Nft) -> list[Barrier]:
    """All of them, for what is routed and for what is sent to the host."""
    found = []
    for chain in nft.base_chains():
        if chain.hook not in ("forward", "input") or chain.table == firewall.TABLE:
            continue
        rules = rules_of(nft, chain.family, chain.table, chain.name) or []
        if chain.policy == "drop" or (rules and rules[-1] in _REFUSALS):
            found.append(Barrier(chain, _program(chain, rules)))
    return found


def is_closed(nft: Nft, barrier: Barrier) -> bool:
    """Whether its owner lets nobody else change the table."""
    head, _, _ = nft.list(barrier.chain.family, barrier.chain.table).partition("chain ")
    return "flags owner" in head


def gates(nft: Nft) -> list[Gate]:
    """Where our networks are to be accepted, for now."""
    found = []
    for barrier in barriers(nft):
        chain = barrier.chain
        if not barrier.is_mended:
            continue
        if chain.table == FIREWALLD:
            hooks = tuple(_zones_of_firewalld(nft))
        else:
            hooks = (Hook(FORWARD, _UFWS_DEFAULT),)
        if hooks:
            found.append(Gate(chain.family, chain.table, hooks))
    return found


def tables(nft: Nft) -> list[tuple[str, str]]:
    """Every (family, table) that is there and may be a gate, some time."""
    present = set(nft.tables())
    return [place for place in _TABLES if place in present]


def held(nft: Nft, family: str, table: str) -> list[str] | None:
    """The rules of our chain in a table; ``None``: it is not there."""
    return rules_of(nft, family, table, CHAIN)


def _program(chain: BaseChain, rules: Sequence[str]) -> str:
    if chain.table == FIREWALLD:
        return FIREWALLD
    return "ufw" if any(rule.startswith(_UFWS) for rule in rules) else ""


def _zones_of_firewalld(nft: Nft) -> list[Hook]:
    """The ends of its zones. Zones of other versions, that are not as we know them, have none."""
    matches = [_ZONE.fullmatch(rule) for rule in rules_of(nft, _FAMILY, FIREWALLD, _ZONES) or ()]
    found = [(match[2], not match[1]) for match in matches if match]
    fallback = {zone for zone, unconditional in found if unconditional}
    hooks = []
    for zone in dict.fromkeys(zone for zone, _ in found):
        base = f"filter_FWD_{zone}"
        rules = [
            rule for rule in rules_of(nft, _FAMILY, FIREWALLD, base) or () if CHAIN not in rule
        ]
        if rules and rules[-1] in _REFUSALS and (zone in fallback or _is_default(nft, zone)):
            hooks.append(Hook(base, (rules[-1],)))
    return hooks


def _is_default(nft: Nft, zone: str) -> bool:
    """Whether a zone has no target of its own: only then the host answers ping in it."""
    rules = rules_of(nft, _FAMILY, FIREWALLD, f"filter_IN_{zone}") or ()
    return any(_ASKS_FOR_PING.fullmatch(rule) for rule in rules)


def rules_of(nft: Nft, family: str, table: str, chain: str) -> list[str] | None:
    """The rules of a chain of others; ``None``: it is gone, which may be any time."""
    try:
        return list(nft.rules(family, table, chain))
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        return None
