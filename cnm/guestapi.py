"""Guests: networks, endpoints and pools that another engine keeps through our plugin, as records.

The engine owns them and tells us what to do; it does not tell again after a restart of
either side. So all that a driver needs to put them back is kept here. They are no
networks of this daemon: no list shows them, no container of ours joins them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cnm.types import (
    EndpointID,
    EndpointInterface,
    IPNetwork,
    NetworkID,
    NetworkSpec,
    Phase,
    PoolID,
    PortBinding,
)


@dataclass(frozen=True, slots=True)
class GuestNetwork:
    """A network of an engine. ``driver``: by which of our drivers."""

    id: NetworkID
    driver: str
    phase: Phase
    spec: NetworkSpec


@dataclass(frozen=True, slots=True)
class GuestEndpoint:
    """An endpoint of an engine.

    ``joined``: its link was handed over. ``ports``: published, as they are.
    """

    id: EndpointID
    network_id: NetworkID
    phase: Phase
    interface: EndpointInterface
    options: Mapping[str, str] = field(default_factory=dict)
    joined: bool = False
    ports: tuple[PortBinding, ...] = ()


@dataclass(frozen=True, slots=True)
class GuestPool:
    """A pool that an engine was granted. ``used``: it has had addresses besides a gateway."""

    id: PoolID
    ipam: str
    address_space: str
    pool: IPNetwork
    sub_pool: IPNetwork | None = None
    used: bool = False


GuestRecord = GuestNetwork | GuestEndpoint | GuestPool
