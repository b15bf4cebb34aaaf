"""What a probe saw."""

from __future__ import annotations

from typing import NamedTuple


class Outcome(NamedTuple):
    """``held``: the probe succeeded. ``detail``: what was seen, in a few words."""

    held: bool
    detail: str
