"""Whose change of the rules is told."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
from kernel.namespaces import Namespace
from patience import patient

from cnm.runtime.kernel.netns import NetNS
from cnm.runtime.kernel.nft import Batch, LibNft, Map, Set, Table
from cnm.runtime.kernel.nftmonitor import RulesMonitor

pytestmark = [pytest.mark.kernel, pytest.mark.both_kernels]

_OPEN = Set("open", ("inet_proto", "inet_service"))
_KINDS: dict[str, Set | Map] = {"open": _OPEN}
_NOTHING_S = 0.3  # six times what it waits for more


@pytest.fixture
def told(host_ns: Namespace) -> Iterator[threading.Event]:
    found = threading.Event()
    monitor = RulesMonitor(found.set)
    yield found
    monitor.close()


def own_changes(nft: LibNft) -> None:
    nft.replace(Table("inet", "cnmt", sets=(_OPEN,)))
    nft.apply(Batch("inet", "cnmt").add("open", "tcp . 80"))
    nft.apply(Batch("inet", "cnmt", kinds=_KINDS).add("open", "tcp . 81"))


def test_others_changes_are_told(host_ns: Namespace, told: threading.Event) -> None:
    host_ns.run("nft", "add table ip theirs")
    assert told.wait(patient(10))


@pytest.mark.parametrize("by", ["the first thread", "another thread"])
def test_own_changes_are_not_told(host_ns: Namespace, told: threading.Event, by: str) -> None:
    """The kernel names the thread that changed them, not the process."""
    with contextlib.closing(LibNft()) as nft, NetNS(host_ns.path) as worker:

        def change() -> bool:  # who changed them lives while that is told
            own_changes(nft)
            return told.wait(_NOTHING_S)

        assert not (change() if by == "the first thread" else worker.run(change))
    host_ns.run("nft", "add table ip theirs")
    assert told.wait(patient(10))
