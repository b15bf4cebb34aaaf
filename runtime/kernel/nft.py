"""nftables through libnftables, in process (libnftables(3)).

``nft -f -`` as a process costs 1.8 ms a call, the library 0.04. What it is told is data
(nfttext.py, whose names are here too).

A context holds the netlink socket of the namespace of the thread that makes it, and
looks up interfaces in the namespace of the thread that uses it: so it is made and used
on one :class:`NetNS` worker, or, without one, by threads of the daemon's own namespace.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from nftables import Nftables

from cnm.errors import KernelError
from cnm.runtime.kernel import nfelements, nftcount
from cnm.runtime.kernel.netns import NetNS
from cnm.runtime.kernel.nftcount import Counted
from cnm.runtime.kernel.nfttext import Batch, Chain, Map, Rule, Set, Table

log = logging.getLogger(__name__)

__all__ = [
    "BaseChain",
    "Batch",
    "Chain",
    "Counted",
    "Hook",
    "LibNft",
    "Map",
    "Nft",
    "Rule",
    "Set",
    "Table",
]

T = TypeVar("T")

_TABLE_LINE = re.compile(r"^table (\S+) (\S+)$", re.MULTILINE)
_NUMBERED = re.compile(r"\t\t(.*) # handle (\d+)")
_COUNTER = re.compile(r"(?:^| )counter packets \d+ bytes \d+\b")
_ERROR = re.compile(r"Error: (?P<what>[^\n]*)")
_COMMAND_SHOWN = 120  # characters of a refused command that an error quotes
_ERRNOS = {os.strerror(number): number for number in sorted(errno.errorcode, reverse=True)}


@dataclass(frozen=True, slots=True)
class BaseChain:
    """A chain that packets enter from a hook, whoever made it."""

    family: str
    table: str
    name: str
    hook: str
    policy: str  # accept or drop


@dataclass(frozen=True, slots=True)
class Hook:
    """A place for a jump in a chain of others: at its end, but before these closing rules."""

    base: str
    closing: tuple[str, ...] = ()  # in nft text without counters

    def place(self, rules: Sequence[str]) -> int:
        """Where among the rules of the chain the jump belongs."""
        place = len(rules)
        while place and rules[place - 1] in self.closing:
            place -= 1
        return place


class Nft(Protocol):
    """What those who own tables ask of nftables."""

    def close(self) -> None:
        """Give back what was opened. A later use opens it again."""

    def replace(self, table: Table) -> None:
        """Make the table be exactly this, in one transaction; for start-up and repair.

        :raises KernelError: it is refused; the old table stays.
        """

    def apply(self, batch: Batch) -> None:
        """Change elements, in one transaction.

        :raises KernelError: ENOENT: the table, set or map is missing; nothing was changed.
        """

    def delete(self, family: str, name: str) -> None:
        """Remove a table. Gone is success."""

    def list(self, family: str, name: str) -> str:
        """A table as ``nft -s list table`` prints it; empty when there is none."""

    def counted(self, family: str, name: str) -> Sequence[Counted]:
        """Every rule and element of a table, with what it has counted; none if there is none."""

    def tables(self) -> Sequence[tuple[str, str]]:
        """(family, name) of all tables, others' too."""

    def base_chains(self) -> Sequence[BaseChain]:
        """All chains with a hook, others' too; not those of the older iptables."""

    def elements(self, family: str, table: str, name: str) -> set[str]:
        """The elements of a set (``key``) or map (``key : value``), in nft text.

        :raises KernelError: ENOENT: there is no such set or map.
        """

    # chains of ours in tables of others

    def rules(self, family: str, table: str, chain: str) -> Sequence[str]:
        """The rules of a chain, in nft text without counters and comments.

        :raises KernelError: ENOENT: there is no such chain.
        """

    def hook_chain(
        self, family: str, table: str, chain: str, rules: Sequence[str], hooks: Sequence[Hook]
    ) -> None:
        """Have the chain hold these rules, and be jumped to from these places and no others.

        One transaction.
        """

    def is_hooked(self, family: str, table: str, chain: str, hooks: Sequence[Hook]) -> bool:
        """Whether each of these places has its one jump to the chain."""

    def unhook_chain(self, family: str, table: str, chain: str) -> None:
        """Remove the chain and the jumps to it. Gone is success."""


class LibNft:
    """:class:`Nft` by libnftables. Thread-safe. Opened at the first use."""

    def __init__(self, namespace: NetNS | None = None) -> None:
        self._namespace = namespace
        self._lock = threading.Lock()  # a context has one output buffer
        self._context: Nftables | None = None
        self._elements = nfelements.Elements()

    def close(self) -> None:
        """See :meth:`Nft.close`."""
        with self._lock:
            self._context = None
        self._elements.close()

    def replace(self, table: Table) -> None:
        """See :meth:`Nft.replace`."""
        name = f"table {table.family} {table.name}"
        # Declared first, so that there is one to delete.
        self._change(f"{name}\ndelete {name}\n{table.render()}", f"replacing nft {name}")

    def apply(self, batch: Batch) -> None:
        """See :meth:`Nft.apply`."""
        if not batch:
            return
        what = f"changing nft table {batch.family} {batch.table}"
        messages = nfelements.packed(batch)
        if messages is None:
            self._change(batch.render(), what)
            return
        if log.isEnabledFor(logging.DEBUG):
            _tell(batch.render())
        try:
            self._inside(lambda: self._elements.commit(messages, what))
        except KernelError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            self._run(batch.render(), what)  # net.core.wmem_default is small: it has a way around

    def delete(self, family: str, name: str) -> None:
        """See :meth:`Nft.delete`."""
        table = f"table {family} {name}"
        self._change(f"{table}\ndelete {table}\n", f"deleting nft {table}")

    def list(self, family: str, name: str) -> str:
        """See :meth:`Nft.list`."""
        return self._run_unless_missing(f"list table {family} {name}", "", stateless=True)

    def counted(self, family: str, name: str) -> Sequence[Counted]:
        """See :meth:`Nft.counted`."""
        text = self._run_unless_missing(f"list table {family} {name}", "")
        if not text:
            return []
        what = f"listing nft table {family} {name}"
        document = self._run(f"list table {family} {name}", what, as_json=True)
        return [*nftcount.elements(document), *nftcount.rules(text)]

    def tables(self) -> Sequence[tuple[str, str]]:
        """See :meth:`Nft.tables`."""
        return _TABLE_LINE.findall(self._run("list tables", "listing nft tables"))

    def base_chains(self) -> Sequence[BaseChain]:
        """See :meth:`Nft.base_chains`."""
        text = self._run("list chains", "listing nft chains", as_json=True)
        found = (item["chain"] for item in json.loads(text)["nftables"] if "chain" in item)
        return [
            BaseChain(
                chain["family"],
                chain["table"],
                chain["name"],
                chain["hook"],
                chain.get("policy", "accept"),
            )
            for chain in found
            if "hook" in chain
        ]

    def elements(self, family: str, table: str, name: str) -> set[str]:
        """See :meth:`Nft.elements`."""
        what = f"listing nft {family} {table} {name}"
        try:
            text = self._run(f"list set {family} {table} {name}", what, as_json=True)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            text = self._run(f"list map {family} {table} {name}", what, as_json=True)
        return nftcount.element_texts(text)

    def rules(self, family: str, table: str, chain: str) -> Sequence[str]:
        """See :meth:`Nft.rules`."""
        return [text for text, _ in self._numbered(family, table, chain)]

    def _numbered(self, family: str, table: str, chain: str) -> Sequence[tuple[str, str]]:
        """The rules of a chain with their handles."""
        command = f"list chain {family} {table} {chain}"
        text = self._run(command, f"listing nft chain {chain}", handles=True)
        found = (_NUMBERED.fullmatch(line) for line in text.splitlines())
        return [(_COUNTER.sub("", match[1]).strip(), match[2]) for match in found if match]

    def hook_chain(
        self, family: str, table: str, chain: str, rules: Sequence[str], hooks: Sequence[Hook]
    ) -> None:
        """See :meth:`Nft.hook_chain`."""
        place = f"{family} {table}"
        lines = [f"add chain {place} {chain}", f"flush chain {place} {chain}"]
        for rule in rules:
            match, _, verdict = rule.rpartition(" ")
            lines.append(f"add rule {place} {chain} {match} counter {verdict}")
        lines += self._removals(family, table, chain)
        for hook in hooks:
            held = self._numbered(family, table, hook.base)
            others = [item for item in held if item[0] != f"jump {chain}"]
            at = hook.place([text for text, _ in others])
            before = f" handle {others[at][1]}" if at < len(others) else ""
            verb = "insert" if before else "add"
            lines.append(f"{verb} rule {place} {hook.base}{before} counter jump {chain}")
        self._change("\n".join(lines), f"accepting our networks in nft {place}")

    def is_hooked(self, family: str, table: str, chain: str, hooks: Sequence[Hook]) -> bool:
        """See :meth:`Nft.is_hooked`."""
        jump = f"jump {chain}"
        for hook in hooks:
            held = self.rules(family, table, hook.base)
            others = [text for text in held if text != jump]
            at = hook.place(others)
            if [*held] != [*others[:at], jump, *others[at:]]:
                return False
        return True

    def unhook_chain(self, family: str, table: str, chain: str) -> None:
        """See :meth:`Nft.unhook_chain`."""
        place = f"{family} {table}"
        try:
            lines = [*self._removals(family, table, chain)]
            lines += [f"flush chain {place} {chain}", f"delete chain {place} {chain}"]
            self._change("\n".join(lines), f"removing nft chain {place} {chain}")
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise

    def _removals(self, family: str, table: str, chain: str) -> Sequence[str]:
        """The commands that remove every rule of a table that only jumps to a chain."""
        what = f"listing nft table {table}"
        text = self._run(f"list table {family} {table}", what, as_json=True)
        found = (item["rule"] for item in json.loads(text)["nftables"] if "rule" in item)
        return [
            f"delete rule {family} {table} {rule['chain']} handle {rule['handle']}"
            for rule in found
            if [part for part in rule["expr"] if "counter" not in part]
            == [{"jump": {"target": chain}}]
        ]

    def _change(self, commands: str, what: str) -> None:
        if log.isEnabledFor(logging.DEBUG):
            _tell(commands)
        self._run(commands, what)

    def _run_unless_missing(self, command: str, otherwise: str, *, stateless: bool = False) -> str:
        try:
            return self._run(command, f"nft {command}", stateless=stateless)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return otherwise
            raise

    def _run(
        self,
        commands: str,
        what: str,
        *,
        as_json: bool = False,
        stateless: bool = False,
        handles: bool = False,
    ) -> str:
        with self._lock:
            code, output, said = self._inside(
                lambda: self._execute(commands, as_json, stateless, handles)
            )
        if code != 0:
            raise _refusal(said, commands, what)
        return output

    def _inside(self, fn: Callable[[], T]) -> T:
        return self._namespace.run(fn) if self._namespace else fn()

    def _execute(
        self, commands: str, as_json: bool, stateless: bool, handles: bool
    ) -> tuple[int, str, str]:
        if self._context is None:
            self._context = Nftables()
        self._context.set_stateless_output(stateless)
        self._context.set_json_output(as_json)
        self._context.set_handle_output(handles)
        code, output, said = self._context.cmd(commands)
        return code, output, said


def _tell(commands: str) -> None:
    log.debug("kernel: nft %s", "; ".join(commands.split("\n")))


def _refusal(said: str, commands: str, what: str) -> KernelError:
    """One line from nft's several: its first error, without the drawing.

    Of several commands nft 1.0.6 always shows the first, whichever is wrong: then none
    is quoted.
    """
    found = _ERROR.search(said)
    reason = found["what"].strip() if found else said.strip().partition("\n")[0]
    number = _ERRNOS.get(reason.rpartition(": ")[2], errno.EINVAL)
    command = commands.strip()
    if "\n" not in command:
        reason += f" ({command[:_COMMAND_SHOWN]})"
    return KernelError(number, what, reason)
