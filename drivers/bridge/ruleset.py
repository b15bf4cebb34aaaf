"""The driver's nft tables in the kernel: one writer, whatever the number of networks.

Calls on different networks come in parallel, and all of them share two tables, which
come with the first network and go with the last. So this is the one place of the
driver with a lock of its own: what is known of the networks and what the kernel holds
change together under it. It is held for single transactions only, 0.1 ms each; nobody
waits for it while a link is made or deleted.

Whole tables are written only when they are missing or their rules are not ours; all else
is batches of elements, which nftables carries out whole or not at all. What was read
is believed while the generation of the rules stays, so that a sweep over many networks
reads once.
"""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from cnm.drivers.bridge import firewall
from cnm.drivers.bridge.firewall import Member, NetworkPolicy
from cnm.errors import KernelError
from cnm.runtime.kernel.nft import Nft, Table
from cnm.types import EndpointID, NetworkID, Repair
from cnm.undo import Teardown, Undo

_TABLES = (firewall.ROUTED_FAMILY, firewall.SWITCHED_FAMILY)
_CHAIN = re.compile(r"^\tchain (\S+) \{$")
_COMMENT = re.compile(r'comment "([^"]*)"$')
_ROUTED_NAME = f"{firewall.ROUTED_FAMILY} {firewall.TABLE}"


@dataclass(slots=True)
class _Seen:
    """What the kernel held at a generation. ``members`` ``None``: rules not as they should be.

    Our own changes are made here too, in place: a set of 10,000 takes 1 ms to copy.
    """

    generation: int
    members: set[Member] | None


class Ruleset:
    """The tables ``cnm-bridge`` of one namespace."""

    def __init__(self, nft: Nft, generation: Callable[[], int]) -> None:
        self._nft = nft
        self._generation = generation
        self._lock = threading.Lock()
        self._networks: dict[NetworkID, tuple[Member, ...]] = {}
        self._published: dict[EndpointID, tuple[Member, ...]] = {}
        self._guard: tuple[Member, ...] = ()
        self._rules: tuple[str, ...] | None = None  # the chains as nft prints ours
        self._seen: _Seen | None = None

    def add(self, network_id: NetworkID, policy: NetworkPolicy) -> None:
        """Let a network do what it may. Again is fine."""
        content = tuple(firewall.members(policy))
        with self._lock:
            if self._networks:
                self._change((), content, whole=lambda: [*self._all(), *content])
            else:
                self._write([*content, *self._others_in_kernel(content)])
            self._networks[network_id] = content

    def remove(self, network_id: NetworkID) -> None:
        """Forget a network; with the last one the tables go. Unknown is success."""
        with self._lock:
            content = self._networks.get(network_id)
            if content is None:
                return
            if len(self._networks) > 1:
                rest = [item for item in self._all() if item not in content]
                self._change(content, (), whole=lambda: rest)
            else:
                self._delete()
            del self._networks[network_id]

    def restore(self, network_id: NetworkID, policy: NetworkPolicy) -> list[Repair]:
        """Learn a network and have the kernel hold its elements; what was done.

        Elements of networks not learnt yet stay: at a start they come one by one.
        """
        content = tuple(firewall.members(policy))
        with self._lock:
            self._networks[network_id] = content
            held = self._look()
            if held is None:
                self._rewrite()
                return [Repair("table", _ROUTED_NAME, "written again")]
            missing = [item for item in (*content, *self._guard) if item not in held]
            if not missing:
                return []
            keys = {(item.set, item.key) for item in missing}
            wrong = [item for item in held if (item.set, item.key) in keys]
            self._change(wrong, missing, whole=self._all)
            return [Repair("table", _ROUTED_NAME, f"elements of {policy.bridge} added again")]

    def publish(self, endpoint_id: EndpointID, content: Iterable[Member]) -> None:
        """Have the tables hold exactly this of an endpoint's ports, in one transaction."""
        wanted = tuple(content)
        with self._lock:
            before = self._published.get(endpoint_id, ())
            self._know(endpoint_id, wanted)
            try:
                self._change(_without(before, wanted), _without(wanted, before), whole=self._all)
            except BaseException:
                self._know(endpoint_id, before)
                raise

    def restore_published(self, endpoint_id: EndpointID, content: Iterable[Member]) -> list[Repair]:
        """Learn an endpoint's ports and have the kernel hold them; what was done."""
        wanted = tuple(content)
        with self._lock:
            self._know(endpoint_id, wanted)
            held = self._look()
            if held is None:
                self._rewrite()
                return [Repair("table", _ROUTED_NAME, "written again")]
            missing = [item for item in wanted if item not in held]
            if not missing:
                return []
            keys = {(item.set, item.key) for item in missing}
            wrong = [item for item in held if (item.set, item.key) in keys]
            self._change(wrong, missing, whole=self._all)
            return [Repair("table", _ROUTED_NAME, f"ports of {endpoint_id[:12]} added again")]

    def owners(self) -> dict[Member, tuple[NetworkID | None, EndpointID | None]]:
        """Whose each element is: a network's, or an endpoint's."""
        with self._lock:
            found: dict[Member, tuple[NetworkID | None, EndpointID | None]] = {}
            for network_id, content in self._networks.items():
                found |= dict.fromkeys(content, (network_id, None))
            for endpoint_id, content in self._published.items():
                found |= dict.fromkeys(content, (None, endpoint_id))
            return found

    def guard(self, interfaces: Collection[tuple[str, str]]) -> None:
        """Keep the host from routing between these interfaces (family, name), and no others."""
        wanted = firewall.guard(sorted(interfaces))
        with self._lock:
            before, self._guard = self._guard, wanted
            gone = [item for item in before if item not in wanted]
            new = [item for item in wanted if item not in before]
            if self._networks and (gone or new):
                try:
                    self._change(gone, new, whole=self._all)
                except KernelError:
                    self._guard = before
                    raise

    def stale(self) -> list[str]:
        """What the kernel holds for networks that are not known: set and key, or a table."""
        with self._lock:
            if not self._networks:
                return [f"{family} {name}" for family, name in self._present()]
            return [f"{item.key} of {item.set} in {_ROUTED_NAME}" for item in self._stale()]

    def remove_stale(self) -> None:
        """Remove all that :meth:`stale` tells."""
        with self._lock:
            if not self._networks:
                self._delete()
            else:
                self._change(self._stale(), (), whole=self._all)

    # all below with the lock held

    def _all(self) -> list[Member]:
        owners = (*self._networks.values(), *self._published.values())
        return [*(item for content in owners for item in content), *self._guard]

    def _know(self, endpoint_id: EndpointID, content: tuple[Member, ...]) -> None:
        if content:
            self._published[endpoint_id] = content
        else:
            self._published.pop(endpoint_id, None)

    def _present(self) -> list[tuple[str, str]]:
        ours = {(family, firewall.TABLE) for family in _TABLES}
        return [found for found in self._nft.tables() if found in ours]

    def _stale(self) -> list[Member]:
        return sorted((self._look() or set()).difference(self._all()))

    def _change(
        self,
        gone: Iterable[Member],
        new: Iterable[Member],
        *,
        whole: Callable[[], Iterable[Member]],
    ) -> None:
        """A batch; or the whole tables, if somebody flushed them."""
        gone, new = list(gone), list(new)
        try:
            self._nft.apply(firewall.change(gone, new))
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            self._write(whole())
            return
        seen = self._seen
        if seen is not None and seen.members is not None and (gone or new):
            # Nobody else's transaction came between: what we know is still all there is.
            now = self._generation()
            if now == seen.generation + 1:
                seen.members.difference_update(gone)
                seen.members.update(new)
                seen.generation = now
            else:
                self._seen = None

    def _write(self, content: Iterable[Member]) -> None:
        with Undo() as undo:
            if not self._networks:
                undo.push(self._delete)
            self._nft.replace(firewall.switched_table())
            self._nft.replace(firewall.routed_table(content))
        self._rules = self._printed_rules()
        self._seen = None

    def _rewrite(self) -> None:
        """Right rules again, and elements of networks that may be learnt later."""
        wanted = self._all()
        kept = self._others_in_kernel(wanted)
        try:
            self._write([*wanted, *kept])
        except KernelError:
            if not kept:
                raise
            self._write(wanted)  # they were of another version of these tables

    def _delete(self) -> None:
        teardown = Teardown("remove the tables of bridge networks")
        for family in _TABLES:
            with teardown.step():
                self._nft.delete(family, firewall.TABLE)
        teardown.finish()
        self._rules = self._seen = None

    # looking

    def _look(self) -> set[Member] | None:
        """What the kernel holds; ``None``: its rules are not ours."""
        generation = self._generation()
        if self._seen is None or self._seen.generation != generation:
            members = self._members_in_kernel() if self._rules_stand() else None
            self._seen = _Seen(generation, members)
        return self._seen.members

    def _rules_stand(self) -> bool:
        """Whether the chains are ours.

        How nft prints a rule is its affair and differs by version: so until we know how it
        prints ours, only the names, hooks and comments are compared.
        """
        printed = self._printed_rules()
        if self._rules is None:
            wanted = (firewall.routed_table(()), firewall.switched_table())
            if tuple(map(_outline, printed)) != tuple(map(_wanted_outline, wanted)):
                return False
            self._rules = printed
        return printed == self._rules

    def _printed_rules(self) -> tuple[str, ...]:
        """The chains of both tables as nft prints them; empty for a table that is missing."""
        texts = (self._nft.list(family, firewall.TABLE) for family in _TABLES)
        return tuple(text[text.find("\n\tchain ") + 1 :] if text else "" for text in texts)

    def _members_in_kernel(self) -> set[Member]:
        found: set[Member] = set()
        for name in firewall.set_names():
            elements = self._nft.elements(firewall.ROUTED_FAMILY, firewall.TABLE, name)
            found |= {firewall.member(name, text) for text in elements}
        return found

    def _others_in_kernel(self, wanted: Iterable[Member]) -> list[Member]:
        """Elements that the kernel holds under other keys than these."""
        keys = {(item.set, item.key) for item in wanted}
        try:
            held = self._members_in_kernel()
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            return []  # no table, or one of another version
        return sorted(item for item in held if (item.set, item.key) not in keys)


def _without(content: Iterable[Member], other: Iterable[Member]) -> list[Member]:
    left = set(other)
    return [item for item in content if item not in left]


def _outline(printed: str) -> list[str]:
    """Chains, hooks and the comments of rules, in order."""
    found = []
    for line in printed.splitlines():
        chain, comment = _CHAIN.match(line), _COMMENT.search(line)
        if chain is not None:
            found.append(f"chain {chain[1]}")
        elif comment is not None:
            found.append(comment[1])
        elif line.startswith("\t\t"):
            found.append(line.strip())
    return found


def _wanted_outline(table: Table) -> list[str]:
    found = []
    for chain in table.chains:
        found.append(f"chain {chain.name}")
        if chain.hook:
            hook = f"type {chain.type} hook {chain.hook} priority {chain.priority};"
            found.append(f"{hook} policy {chain.policy};")
        found += [rule.comment for rule in chain.rules]
    return found
