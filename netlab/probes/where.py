"""From a probe's target to an address, as the source would find it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Literal

from cnm.netlab.errors import LabError
from cnm.netlab.model import Place, Target
from cnm.netlab.probes import naming
from cnm.netlab.vantage import Finder, Vantage
from cnm.types import IPAddress, IPInterface

Family = Literal[4, 6] | None


class Unresolved(LabError):
    """A name that does not resolve at the source, or a place without such an address."""


def address_of(find: Finder, source: Vantage, target: Target, family: Family = None) -> IPAddress:
    """The address that the source would use for the target.

    Of a place with several addresses the one in a subnet that the source is in, else the first.

    :raises Unresolved: there is none.
    """
    if isinstance(target, Place):
        return _of_place(source, target, find(target).addresses(), family)
    if isinstance(target, str):
        return _of_name(source, target, family)
    return target


def _of_place(
    source: Vantage, target: Place, addresses: Sequence[IPInterface], family: Family
) -> IPAddress:
    fitting = [item for item in addresses if family in (None, item.version)]
    if not fitting:
        raise Unresolved(f"{target} has no {f'IPv{family} ' if family else ''}address")
    near = [item.network for item in source.addresses()]
    shared = (item for item in fitting if any(item.ip in subnet for subnet in near))
    return next(shared, fitting[0]).ip


def _of_name(source: Vantage, name: str, family: Family) -> IPAddress:
    for record in ("A", "AAAA") if family is None else ("AAAA",) if family == 6 else ("A",):
        answers = naming.resolve(source, name, record)
        if answers:
            return ipaddress.ip_address(answers[0])
    raise Unresolved(f"{name} does not resolve")
