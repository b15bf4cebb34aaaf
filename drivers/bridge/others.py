"""Our networks in the forward chains of others that drop by default: Docker's, ufw's, an admin's.

An accept in our own table does not undo a drop in another's. dockerd sets the policy of
iptables' FORWARD to DROP, and ``bridge-nf-call-iptables`` has frames between two ports of a
bridge pass it as well: beside it containers of ours would reach neither each other nor the
world. So where ``FORWARD`` of an iptables table has that policy, a chain of ours is jumped to
from its *end*: whatever its owner refuses by a rule stays refused, and what nobody there spoke
of is left to the rules of our own table, which hold in any case.

Docker (before 28) keeps strangers from its containers by that policy alone: so what goes to a
bridge that it looks after (``-o BRIDGE -j DOCKER``) is left to it, whoever sent it.

The chain is made of what iptables itself understands (no sets), two rules a bridge, and goes with
the last network, or when the policy is no drop any more. A policy is never changed. Rules of
iptables-legacy are not seen here; ``net doctor`` tells of chains that drop and are not mended.
"""

from __future__ import annotations

import errno
import logging
import re
import threading
from collections.abc import Callable, Iterable

from cnm.drivers.bridge.firewall import NetworkPolicy
from cnm.errors import KernelError
from cnm.runtime.kernel.nft import BaseChain, Nft
from cnm.types import NetworkID, Repair

log = logging.getLogger(__name__)

CHAIN = "CNM-FORWARD"
_TABLE, BASE = "filter", "FORWARD"  # iptables(8)
_DOCKERS = "DOCKER"  # its chain for what goes to its bridges
_LEFT_ALONE = " return"
_FAMILIES = ("ip", "ip6")
_TO_DOCKER = re.compile(rf'oifname "([^"]+)" jump {_DOCKERS}')
_ADDRESS_VERSION = {"ip": 4, "ip6": 6}


class OthersForwarding:
    """The chain of ours in iptables' tables of one namespace."""

    def __init__(self, nft: Nft, generation: Callable[[], int]) -> None:
        self._nft = nft
        self._generation = generation
        self._lock = threading.Lock()
        self._networks: dict[NetworkID, NetworkPolicy] = {}
        self._settled_at: int | None = None  # generation at which all was as it should be

    def add(self, network_id: NetworkID, policy: NetworkPolicy) -> list[Repair]:
        """Have a network's packets accepted. Again is fine; what was done.

        Rules of networks not learnt yet stay: at a start they come one by one.
        """
        with self._lock:
            if self._networks.get(network_id) != policy:
                self._settled_at = None
            self._networks[network_id] = policy
            return self._settle(lambda held, needed: [*held, *_without(needed, held)])

    def remove(self, network_id: NetworkID) -> None:
        """Forget a network. Unknown is success."""
        with self._lock:
            policy = self._networks.pop(network_id, None)
            if policy is None:
                return
            self._settled_at = None
            gone = [rule for family in _FAMILIES for rule in _accepts(policy, family)]
            self._settle(lambda held, needed: [*_without(held, gone), *_without(needed, held)])

    def stale(self) -> list[str]:
        """Chains of ours that should not be there, or hold what nobody needs."""
        with self._lock:
            needed = self._needed()
            held = {family: self._held(family) for family in _FAMILIES}
            return [
                f"{family} {_TABLE} {CHAIN}"
                for family, rules in held.items()
                if rules is not None and (family not in needed or _without(rules, needed[family]))
            ]

    def remove_stale(self) -> None:
        """Have the chains hold what is needed and nothing else."""
        with self._lock:
            self._settled_at = None
            self._settle(lambda _held, needed: needed)

    # all below with the lock held

    def _settle(self, wanted: Callable[[list[str], list[str]], list[str]]) -> list[Repair]:
        """Write what differs. Others' tables are theirs: a refusal is told and nothing fails.

        ``wanted``: what a chain should hold, of what it holds and what is needed.
        """
        generation = self._generation()
        if self._settled_at == generation:
            return []
        repairs = []
        needed = self._needed()
        for family in _FAMILIES:
            try:
                if self._have(family, needed.get(family), wanted):
                    repairs.append(Repair("chain", f"{family} {_TABLE} {CHAIN}", "as needed again"))
            except KernelError as error:
                log.warning("networks beside another firewall: %s", error)
        self._settled_at = None if repairs else generation
        return repairs

    def _needed(self) -> dict[str, list[str]]:
        """The rules for each family whose FORWARD drops, what is left alone first."""
        if not self._networks:
            return {}
        return {
            chain.family: [*self._left_alone(chain.family), *self._accepts(chain.family)]
            for chain in self._nft.base_chains()
            if mends(chain)
        }

    def _left_alone(self, family: str) -> list[str]:
        found = (_TO_DOCKER.fullmatch(rule) for rule in self._nft.rules(family, _TABLE, BASE))
        return [f'oifname "{match[1]}"{_LEFT_ALONE}' for match in found if match]

    def _accepts(self, family: str) -> list[str]:
        return [rule for policy in self._networks.values() for rule in _accepts(policy, family)]

    def _have(
        self,
        family: str,
        needed: list[str] | None,
        wanted: Callable[[list[str], list[str]], list[str]],
    ) -> bool:
        """Have the wanted rules in the chain, or no chain; whether anything was changed."""
        held = self._held(family)
        if needed is None:
            if held is None:
                return False
            self._nft.unhook_chain(family, _TABLE, BASE, CHAIN)
            return True
        first = [rule for rule in needed if rule.endswith(_LEFT_ALONE)]
        accepted = [rule for rule in held or [] if not rule.endswith(_LEFT_ALONE)]
        rules = [*first, *wanted(accepted, _without(needed, first))]
        if held == rules and self._nft.jumps(family, _TABLE, BASE, CHAIN):
            return False
        self._nft.hook_chain(family, _TABLE, BASE, CHAIN, rules)
        return True

    def _held(self, family: str) -> list[str] | None:
        """The rules that the chain has, as we write them; ``None``: there is no chain."""
        try:
            return list(self._nft.rules(family, _TABLE, CHAIN))
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            return None


def _without(rules: Iterable[str], others: Iterable[str]) -> list[str]:
    left = set(others)
    return [rule for rule in rules if rule not in left]


def mends(chain: BaseChain) -> bool:
    """Whether a chain that drops is one where our networks are accepted."""
    place = (chain.family in _FAMILIES, chain.table, chain.name)
    return place == (True, _TABLE, BASE) and chain.policy == "drop"


def _accepts(policy: NetworkPolicy, family: str) -> Iterable[str]:
    """Both ways over a bridge; on a bridge of others only for our subnets."""
    bridge = f'"{policy.bridge}"'
    if policy.shared is None:
        return [f"iifname {bridge} accept", f"oifname {bridge} accept"]
    mine = [item for item in policy.shared if item.version == _ADDRESS_VERSION[family]]
    return [
        rule
        for subnet in mine
        for rule in (
            f"iifname {bridge} {family} saddr {subnet} accept",
            f"oifname {bridge} {family} daddr {subnet} accept",
        )
    ]
