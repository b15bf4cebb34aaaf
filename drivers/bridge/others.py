"""Our networks in the forward chains of others that drop by default: Docker's, ufw's, firewalld's.

An accept in our own table does not undo a drop in another's. dockerd sets the policy of
iptables' FORWARD to DROP, and ``bridge-nf-call-iptables`` has frames between two ports of a
bridge pass it as well: beside it containers of ours would reach neither each other nor the
world. So where others drop by default (hostfirewalls.py) a chain of ours is jumped to from the
*end* of theirs: whatever its owner refuses by a rule stays refused, and what nobody there spoke
of is left to the rules of our own table, which hold in any case.

Docker (before 28) keeps strangers from its containers by that policy alone: so what goes to a
bridge that it looks after (``-o BRIDGE -j DOCKER``) is left to it, whoever sent it.

The chain is made of what iptables itself understands (no sets), two rules a bridge, and goes with
the last network, or when nothing drops by default any more. A policy is never changed. Rules of
iptables-legacy are not seen here; ``net doctor`` tells of chains that drop and are not mended.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable

from cnm.drivers.bridge import hostfirewalls
from cnm.drivers.bridge.firewall import NetworkPolicy
from cnm.drivers.bridge.hostfirewalls import CHAIN, Gate
from cnm.errors import KernelError
from cnm.runtime.kernel.nft import Nft
from cnm.types import NetworkID, Repair

log = logging.getLogger(__name__)

_DOCKERS = "DOCKER"  # its chain for what goes to its bridges
_LEFT_ALONE = " return"
_TO_DOCKER = re.compile(rf'oifname "([^"]+)" jump {_DOCKERS}')
_HEADERS = {4: "ip", 6: "ip6"}

Place = tuple[str, str]  # family and table


class OthersForwarding:
    """The chain of ours in iptables' tables of one namespace."""

    def __init__(self, nft: Nft, generation: Callable[[], int]) -> None:
        self._nft = nft
        self._generation = generation
        self._lock = threading.Lock()
        self._networks: dict[NetworkID, NetworkPolicy] = {}
        self._refused: dict[Place, str] = {}  # what was told of those that let us not in
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
            gone = [rule for family in hostfirewalls.FAMILIES for rule in _accepts(policy, family)]
            self._settle(lambda held, needed: [*_without(held, gone), *_without(needed, held)])

    def stale(self) -> list[str]:
        """Chains of ours that should not be there, or hold what nobody needs."""
        with self._lock:
            needed = {place: rules for place, (_, rules) in self._needed().items()}
            held = {place: self._held(place) for place in hostfirewalls.tables(self._nft)}
            return [
                f"{' '.join(place)} {CHAIN}"
                for place, rules in held.items()
                if rules is not None and (place not in needed or _without(rules, needed[place]))
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
        for place in hostfirewalls.tables(self._nft):
            try:
                if self._have(place, needed.get(place), wanted):
                    repairs.append(Repair("chain", f"{' '.join(place)} {CHAIN}", "as needed again"))
                self._refused.pop(place, None)
            except KernelError as error:
                self._tell(place, error)
        self._settled_at = None if repairs else generation
        return repairs

    def _tell(self, place: Place, error: KernelError) -> None:
        """Once: who refuses does so at every change of the rules."""
        told = self._refused.get(place) == str(error)
        self._refused[place] = str(error)
        level = logging.DEBUG if told else logging.WARNING
        log.log(level, "networks beside another firewall: %s", error)

    def _needed(self) -> dict[Place, tuple[Gate, list[str]]]:
        """The rules for each table that drops, what is left alone first."""
        if not self._networks:
            return {}
        return {
            (gate.family, gate.table): (
                gate,
                [*self._left_alone(gate), *self._accepts(gate.family)],
            )
            for gate in hostfirewalls.gates(self._nft)
        }

    def _left_alone(self, gate: Gate) -> list[str]:
        if gate.table != hostfirewalls.FILTER:
            return []
        rules = hostfirewalls.rules_of(self._nft, gate.family, gate.table, hostfirewalls.FORWARD)
        found = (_TO_DOCKER.fullmatch(rule) for rule in rules or ())
        return [f'oifname "{match[1]}"{_LEFT_ALONE}' for match in found if match]

    def _accepts(self, family: str) -> list[str]:
        return [rule for policy in self._networks.values() for rule in _accepts(policy, family)]

    def _have(
        self,
        place: Place,
        needed: tuple[Gate, list[str]] | None,
        wanted: Callable[[list[str], list[str]], list[str]],
    ) -> bool:
        """Have the wanted rules in the chain, or no chain; whether anything was changed."""
        held = self._held(place)
        if needed is None:
            if held is None:
                return False
            self._nft.unhook_chain(*place, CHAIN)
            return True
        gate, content = needed
        first = [rule for rule in content if rule.endswith(_LEFT_ALONE)]
        accepted = [rule for rule in held or [] if not rule.endswith(_LEFT_ALONE)]
        rules = [*first, *wanted(accepted, _without(content, first))]
        if held == rules and self._nft.is_hooked(*place, CHAIN, gate.hooks):
            return False
        self._nft.hook_chain(*place, CHAIN, rules, gate.hooks)
        return True

    def _held(self, place: Place) -> list[str] | None:
        return hostfirewalls.held(self._nft, *place)


def _without(rules: Iterable[str], others: Iterable[str]) -> list[str]:
    left = set(others)
    return [rule for rule in rules if rule not in left]


def _accepts(policy: NetworkPolicy, family: str) -> Iterable[str]:
    """Both ways over a bridge; on a bridge of others only for our subnets."""
    bridge = f'"{policy.bridge}"'
    if policy.shared is None:
        return [f"iifname {bridge} accept", f"oifname {bridge} accept"]
    return [
        rule
        for subnet in policy.shared
        if family in (header := _HEADERS[subnet.version], "inet")
        for rule in (
            f"iifname {bridge} {header} saddr {subnet} accept",
            f"oifname {bridge} {header} daddr {subnet} accept",
        )
    ]
