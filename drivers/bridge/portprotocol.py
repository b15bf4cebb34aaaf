"""What daemon and port helper say to one another, by :mod:`cnm.runtime.kernel.packets`.

A client sends ``{"ask": NAME, …}`` and gets ``{"done": …}`` or ``{"failed": …}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cnm
from cnm.runtime.kernel.resident import Place

MODULE = "cnm.drivers.bridge.portserver"
PROTOCOL = 1  # one more with each change of what is said; a helper of another is replaced

Key = tuple[str, str, int]  # protocol, host address, port
Target = tuple[str, int]  # address and port in the container
Holding = tuple[str, str, int, str, Target | None]  # a key, its owner, whom clients are passed on


@dataclass(frozen=True, slots=True)
class Wanted:
    """A port on some addresses. ``low`` 0: any free one, else one from ``low`` to ``high``.

    With each address comes whom its clients are passed on to; ``None``: the kernel does it.
    """

    protocol: str
    addresses: tuple[tuple[str, Target | None], ...]
    low: int = 0
    high: int = 0

    @property
    def choice(self) -> bool:
        """Whether another port would do."""
        return not self.low or self.low != self.high

    def document(self) -> dict[str, Any]:
        return {
            "protocol": self.protocol,
            "addresses": self.addresses,
            "low": self.low,
            "high": self.high,
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Wanted:
        addresses = tuple((address, read_target(to)) for address, to in document["addresses"])
        return cls(document["protocol"], addresses, document["low"], document["high"])


def read_target(document: Any) -> Target | None:
    return (document[0], document[1]) if document else None


def place(exec_root: str) -> Place:
    """Where the helper of a daemon is found."""
    return Place(exec_root, "ports")


def greeting() -> dict[str, Any]:
    """What the helper says of itself."""
    return {"protocol": PROTOCOL, "version": cnm.__version__}
