"""What a link on top of another one is: macvlan or ipvlan, and in which mode. linux/if_link.h."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from cnm.runtime.kernel.encode import Attributes
from cnm.runtime.kernel.rtsocket import attributes

_MODE, _FLAGS = 1, 2  # IFLA_MACVLAN_MODE, IFLA_IPVLAN_MODE; IFLA_IPVLAN_FLAGS
_IPVLAN = "ipvlan"
KINDS = frozenset({"macvlan", _IPVLAN})


@dataclass(frozen=True, slots=True)
class Upper:
    """``flags``: of an ipvlan: how links of one parent reach each other."""

    kind: str
    mode: int
    flags: int = 0

    def attributes(self) -> Attributes:
        """What its message carries. A macvlan's flags are about promiscuity: left alone."""
        prefix = f"IFLA_{self.kind.upper()}"
        found: Attributes = [(f"{prefix}_MODE", self.mode)]
        if self.kind == _IPVLAN:
            found.append((f"{prefix}_FLAGS", self.flags))
        return found


def decode(kind: str, data: memoryview) -> Upper:
    """The IFLA_INFO_DATA of a link of one of the ``KINDS``."""
    found = {number: int.from_bytes(value, sys.byteorder) for number, value in attributes(data)}
    return Upper(kind, found.get(_MODE, 0), found.get(_FLAGS, 0) if kind == _IPVLAN else 0)
