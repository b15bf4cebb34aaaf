"""Optional contracts, which callers ask for with ``isinstance``: what else a driver can do.

Python 3.11 gathers a protocol's members anew for each question. An attach and a detach ask nine
times, which was a tenth of the processor time of their thread. So a class is looked at once:
its instances can all do the same.
"""

from __future__ import annotations

from typing import _ProtocolMeta

# A memory only. Not in the metaclass: what is annotated there counts as a member of each protocol.
_kept: dict[tuple[type, type], bool] = {}


class Ability(_ProtocolMeta):
    """The metaclass of a ``runtime_checkable`` protocol that remembers which classes keep it."""

    def __instancecheck__(cls, instance: object) -> bool:
        question = (cls, type(instance))
        kept = _kept.get(question)
        if kept is None:
            kept = _kept[question] = super().__instancecheck__(instance)
        return kept
