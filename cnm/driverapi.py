"""What a network driver is: the contract that built-in and third-party drivers keep.

It follows libnetwork's remote driver protocol method for method, so that a driver
of ours can be served to a real engine with no code of its own.

Register a driver with an entry point in the group ``cnm.drivers`` whose value is a
factory: a callable that takes a :class:`DriverContext` and returns the driver. The
built-in drivers register the same way.

Rules for every method: idempotent (a repeated call finds its work done and
succeeds); a call that fails half-way undoes what it did; deleting what is gone
succeeds, with the namespace, the parent link or the table gone too. Calls on
different networks come in parallel; the core serialises those on one network's
definition and on one sandbox. Bad options are refused with ``InvalidParameter``
before anything is touched; the kernel's refusals come out as ``KernelError``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from cnm.ability import Ability
from cnm.hostapi import DeviceClaims, HostSettings
from cnm.types import (
    EndpointID,
    EndpointInterface,
    FirewallEntry,
    JoinInfo,
    NetworkID,
    NetworkSpec,
    Peer,
    PortBinding,
    Reach,
    SandboxKey,
    Scope,
)

ENTRY_POINT_GROUP = "cnm.drivers"


@dataclass(frozen=True, slots=True)
class DriverContext:
    """What a driver's factory is given.

    ``settings``: the host's sysctls, shared with all drivers. ``options``: defaults
    for every network of this driver (daemon.json's ``default-network-opts``). ``claims``:
    shared with all drivers as well. ``ask_repair``: has the core look after a network now, by
    ``Repairable.restore``; for any thread that holds nothing of the driver's.
    ``exec_root``: where a process that a driver keeps beside the daemon is found again.
    """

    settings: HostSettings
    options: Mapping[str, str] = field(default_factory=dict)
    claims: DeviceClaims = field(default_factory=DeviceClaims)
    ask_repair: Callable[[NetworkID], object] = lambda network_id: None
    exec_root: str = "/run/cnm"


@dataclass(frozen=True, slots=True)
class Capability:
    """What a driver says of itself. ``scope``: where its networks are known."""

    scope: Scope = Scope.LOCAL
    connectivity_scope: Scope = Scope.LOCAL
    instances: int | None = None  # 1 for host and null: a second network is refused
    attachable: bool = True  # False for host and null: nothing is connected afterwards
    addressed: bool = True  # False for host and null: networks have no pools


@runtime_checkable
class NetworkDriver(Protocol):
    """The seven calls every driver has, and its two facts."""

    @property
    def name(self) -> str: ...

    @property
    def capability(self) -> Capability: ...

    def create_network(self, network: NetworkSpec) -> None:
        """Make the network's kernel objects.

        :raises InvalidParameter: an option is unknown or malformed (named).
        :raises Forbidden: it conflicts with another network (named).
        :raises KernelError: the kernel refused; nothing is left behind.
        """

    def delete_network(self, network_id: NetworkID) -> None:
        """Remove them. An unknown network is success."""

    def create_endpoint(
        self,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        interface: EndpointInterface,
        options: Mapping[str, Any],
    ) -> EndpointInterface:
        """Check an endpoint and choose what is open in ``interface`` (normally the MAC).

        Returns the interface complete. No kernel object is needed yet.
        """

    def delete_endpoint(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """Remove what is left of the endpoint. Unknown ids are success."""

    def endpoint_oper_info(
        self, network_id: NetworkID, endpoint_id: EndpointID
    ) -> Mapping[str, Any]:
        """Facts for inspect, such as the real port bindings."""

    def join(
        self,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        sandbox_key: SandboxKey | None,
        interface_name: str,
        options: Mapping[str, Any],
    ) -> JoinInfo:
        """Make the endpoint's link.

        With a ``sandbox_key`` (path of the namespace) the link is made inside it
        under ``interface_name``, down, and ``placed`` is true. Without (an engine
        calls us as a plugin) it waits in the host's namespace for the engine to move.
        """

    def leave(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """Remove the link from the sandbox. Already gone is success."""


@runtime_checkable
class NetworkChecker(Protocol, metaclass=Ability):
    """Optional: a driver that can refuse a network before anything is written or leased.

    Drivers that do not have it refuse in ``create_network``.
    """

    def check_network(self, network: NetworkSpec) -> None:
        """As ``create_network``, but only looks. Pools may still be empty.

        :raises InvalidParameter: an option is unknown or malformed (named).
        :raises Forbidden: it conflicts with another network (named).
        """

    def skip_gateway(self, network: NetworkSpec) -> tuple[bool, bool]:
        """Whether to take no gateway address out of the pools (IPv4, IPv6): GwAllocCheck."""


@runtime_checkable
class LinkFinder(Protocol, metaclass=Ability):
    """Optional: endpoints whose only link is inside the sandbox leave no trace outside.

    A driver just started could not find the link of an endpoint that it has to remove.
    """

    def link_is_in(self, endpoint_id: EndpointID, sandbox_key: SandboxKey) -> None:
        """Where the endpoint's link is, or may be. Told before each ``leave``; only remembered."""


@runtime_checkable
class ExternalConnectivity(Protocol, metaclass=Ability):
    """Optional: can publish ports."""

    def program_external_connectivity(
        self, network_id: NetworkID, endpoint_id: EndpointID, ports: Sequence[PortBinding]
    ) -> Sequence[PortBinding]:
        """Make exactly these the endpoint's published ports; the real ones, in order.

        ``ports``: all that is wanted. ``host_ip`` ``None``: the network's default; ``host_port``
        0: a free one; ``host_port`` to ``host_port_end``: one of these. Called again with
        another list, only the difference is changed: what stays keeps its connections and the
        port chosen for it. Every host port is held before a rule changes. The answer has one
        binding for each address and family that is bound, with nothing left open.

        :raises Forbidden: :raises Conflict: a port is taken; all is as before.
        """

    def revoke_external_connectivity(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """Publish nothing of it any more. Unknown ids are success."""


@runtime_checkable
class PublishChecker(Protocol, metaclass=Ability):
    """Optional: a driver that can refuse ports before anything is touched."""

    def check_external_connectivity(
        self, network_id: NetworkID, ports: Sequence[PortBinding]
    ) -> None:
        """Refuse what could never be published here; whether ports are free is not asked.

        :raises InvalidParameter: a protocol is unknown, an address is not the host's, …
        """


@runtime_checkable
class FirewallInsight(Protocol, metaclass=Ability):
    """Optional: what ``net firewall`` asks a driver."""

    def firewall_rules(self) -> Sequence[FirewallEntry]:
        """Every rule and element of its own, in order."""

    def firewall_reach(self) -> Sequence[Reach]:
        """Who can reach each published port, and which rule would say no."""


@runtime_checkable
class PeerListener(Protocol, metaclass=Ability):
    """Optional: programs remote endpoints."""

    def peer_added(self, network_id: NetworkID, peer: Peer) -> None: ...

    def peer_removed(self, network_id: NetworkID, peer: Peer) -> None: ...


@runtime_checkable
class DeviceOwner(Protocol, metaclass=Ability):
    """Optional: its networks have devices, with routes of their own, in the host's namespace."""

    def devices(self) -> Collection[str]:
        """Their names, from memory: asked for each route that appears on the host."""


@dataclass(frozen=True, slots=True)
class Wire:
    """Where containers of a network meet others: a link of the host, and what is behind it.

    ``own_macs``: each container has a MAC of its own there (macvlan); else all send with the
    link's (ipvlan).
    """

    link: str
    own_macs: bool = True


@runtime_checkable
class OnWire(Protocol, metaclass=Ability):
    """Optional: its networks lie on a wire where others may have an address already.

    The core probes there before an address is used, listens for others that take it later, and
    tells an IPAM driver that leases from the wire where to ask.
    """

    def wire(self, network: NetworkSpec) -> Wire | None:
        """The link, from the options alone; None: nobody else is there (no parent, layer 3)."""


@runtime_checkable
class LinkWatcher(Protocol, metaclass=Ability):
    """Optional: sees from the host's namespace whether a link that an engine has is in use."""

    def in_use(self, network_id: NetworkID, endpoint_id: EndpointID) -> bool:
        """Not if it is gone (with the container), nor if it lies in the host's namespace.

        There it lies for a moment before the engine moves it, and after it was taken out.
        """


@runtime_checkable
class Diagnostic(Protocol, metaclass=Ability):
    """Optional: what ``net doctor`` asks a driver."""

    def diagnose(self) -> Sequence[tuple[str, bool | str, str]]:
        """(feature, works here, detail) for each kernel feature that the driver needs.

        Instead of yes or no also ``ok``, ``warning`` or ``failed``.
        """
