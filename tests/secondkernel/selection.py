"""Which kernel a test runs on. Pure but for the questions to the running kernel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from cnm.netlab.features import Features

NEEDS, BOTH, VM = "needs", "both_kernels", "vm"
_WEIGHTS = (
    *(("tests/lab/", 35), ("tests/protocol/", 15), ("tests/torture/", 20), ("killed_at_each", 6)),
    *(("vlan_trunk", 8), ("netem", 6), ("/drivers/", 3), ("", 1)),
)
_NAMED = re.compile(rf"\bmark\.(?:{NEEDS}|{BOTH}|{VM})\b".encode())


@dataclass(frozen=True, slots=True)
class Split:
    """Tests for this kernel, and node ids of those for the second one."""

    here: list[pytest.Item]
    there: list[str]


def needed(item: pytest.Item) -> list[str]:
    """The features that a test names, its class's and module's included."""
    return [str(name) for mark in item.iter_markers(NEEDS) for name in mark.args]


def mark_for_vm(items: Iterable[pytest.Item], features: Features) -> None:
    """Give what cannot run on this kernel the marker ``vm``, so that ``-m`` can tell it apart."""
    for item in items:
        if features.lacking(needed(item)):
            item.add_marker(VM)


def is_for_vm(item: pytest.Item) -> bool:
    """Whether it may run in the VM, now or on another machine."""
    return any(item.get_closest_marker(name) is not None for name in (NEEDS, BOTH, VM))


def split(
    items: Iterable[pytest.Item], names: Mapping[pytest.Item, str], features: Features, mode: str
) -> Split:
    """Divide what is selected. ``mode`` is the option ``--vm``; see the plugin."""
    here: list[pytest.Item] = []
    there: list[str] = []
    for item in items:
        lacking = bool(features.lacking(needed(item)))
        both = item.get_closest_marker(BOTH) is not None
        if lacking or (both and mode in ("also", "only")):
            there.append(names[item])
        if not lacking and (mode != "only" or item.get_closest_marker(VM)):
            here.append(item)
    return Split(here, there)


def shares(tests: Sequence[str], number: int) -> list[list[str]]:
    """Divide them by file, as evenly in time as whole files allow; no empty share."""
    by_file: dict[str, list[str]] = {}
    for test in tests:
        by_file.setdefault(test.partition("::")[0], []).append(test)
    found: list[list[str]] = [[] for _ in range(number)]
    for group in sorted(by_file.values(), key=_weight, reverse=True):
        min(found, key=_weight).extend(group)
    return [share for share in found if share]


def _weight(tests: Sequence[str]) -> int:
    """By what they take there, in some 1.5 seconds: the first pattern that matches."""
    return sum(next(weight for known, weight in _WEIGHTS if known in test) for test in tests)


def names_marks(path: Path) -> bool:
    """Whether a test file names one of the markers: no other has to be read for the VM's tests."""
    return _NAMED.search(path.read_bytes()) is not None
