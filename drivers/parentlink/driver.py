"""The calls of a driver whose endpoints' links sit on a link of the host, put together.

What makes macvlan and ipvlan differ comes in by a :class:`Kind`; what a driver has beside its
parents and endpoints' links by a :class:`Beside`. As for locking see the bridge driver: what
is known lives in dicts, of which only single atomic operations are used; who may use a
parent together is settled by the claims that all drivers share.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from cnm.driverapi import Capability, DriverContext, Wire
from cnm.drivers.parentlink import diagnosis
from cnm.drivers.parentlink.children import ChildPlan, Children
from cnm.drivers.parentlink.options import NetworkOptions, check_endpoint
from cnm.drivers.parentlink.parents import Parents
from cnm.drivers.parentlink.record import NetworkRecord, short_name
from cnm.drivers.reaper import Reaper
from cnm.errors import NotFound
from cnm.hostapi import DeviceClaim
from cnm.runtime.kernel import owner
from cnm.runtime.kernel.departures import Departures
from cnm.runtime.kernel.linkmonitor import LinkMonitor
from cnm.runtime.kernel.netlink import Link, Netlink
from cnm.types import (
    EndpointID,
    EndpointInterface,
    EndpointState,
    JoinInfo,
    NetworkID,
    NetworkSpec,
    OwnedObject,
    Repair,
    SandboxKey,
    Scope,
)
from cnm.undo import Teardown, Undo

log = logging.getLogger(__name__)


# Under way at once on the host itself, where few links are deleted: each is a thread.
_DELETIONS = 2


class Kind(Protocol):
    """What makes one such driver differ from another. ``prefix``: of names of endpoints' links
    outside, ``isolated_prefix`` of parents that lead nowhere (Docker's)."""

    @property
    def name(self) -> str: ...

    @property
    def prefix(self) -> str: ...

    @property
    def isolated_prefix(self) -> str: ...

    def read(self, network: NetworkSpec, defaults: Mapping[str, str]) -> NetworkOptions:
        """:raises InvalidParameter: an option is unknown or malformed (named)."""

    def refuse_beside(self, network: DeviceClaim, other: DeviceClaim, parent: str) -> None:
        """:raises Forbidden: the two cannot use one parent together."""

    def complete(
        self, known: NetworkRecord, endpoint_id: EndpointID, wanted: EndpointInterface, parent: Link
    ) -> EndpointInterface:
        """An endpoint's interface, checked and with its MAC address, if it has one of its own.

        :raises InvalidParameter: :raises Forbidden: there can be no such endpoint.
        """


class Beside(Protocol):
    """What else a network of the driver has on the host."""

    def check(self, known: NetworkRecord) -> None:
        """:raises InvalidParameter: it cannot be had; nothing is changed."""

    def ensure(self, known: NetworkRecord, parent: Link) -> list[Repair]:
        """Make it, or put right what differs, as for the endpoints that have joined."""

    def remove(self, known: NetworkRecord) -> None:
        """Gone is success."""

    def devices(self, known: NetworkRecord) -> Collection[str]:
        """Names of its links."""


def make_reaper() -> Reaper:
    """For the links of the namespace of the calling thread, and those in its sandboxes."""
    return Reaper([Netlink() for _ in range(_DELETIONS)], Departures())


class ParentLinkDriver:
    """NetworkDriver, NetworkChecker, LinkFinder, LinkWatcher, OnWire, DeviceOwner, Diagnostic and
    Repairable."""

    capability = Capability(connectivity_scope=Scope.GLOBAL)

    def __init__(
        self,
        kind: Kind,
        netlink: Netlink,
        reaper: Reaper,
        context: DriverContext,
        beside: Beside,
    ) -> None:
        self.name = kind.name
        self._kind = kind
        self._netlink = netlink
        self._reaper = reaper
        self._claims = context.claims
        self._ask_repair = context.ask_repair
        self._monitor = LinkMonitor(self._changed, self._changed)
        self._defaults = context.options
        self._beside = beside
        self._parents = Parents(netlink, reaper, kind.name)
        self._children = Children(netlink, reaper, kind.prefix)
        self._networks: dict[NetworkID, NetworkRecord] = {}
        self._missing: set[NetworkID] = set()  # whose parent was gone when it was last looked for

    def close(self) -> None:
        """Close its sockets. What it made stays."""
        self._monitor.close()
        self._reaper.close()
        self._netlink.close()

    # NetworkChecker

    def check_network(self, network: NetworkSpec) -> None:
        """Refuse what ``create_network`` would refuse; see there."""
        wanted = self._read(network)
        self._claims.look(wanted.parent_name, wanted.claim(), self._refuser(wanted))
        self._parents.check(wanted)

    def skip_gateway(self, network: NetworkSpec) -> tuple[bool, bool]:
        """No address is taken for a gateway that nobody asked for: it is somebody else's."""
        return True, True

    def wire(self, network: NetworkSpec) -> Wire | None:
        """The parent, where containers are on the LAN that it leads to (not behind it)."""
        known = self._read(network)
        if known.isolated or known.options.routed:
            return None
        return Wire(known.parent_name, own_macs=known.options.own_macs)

    # networks

    def create_network(self, network: NetworkSpec) -> None:
        """The parent, then what else the host has of it."""
        if network.id in self._networks:
            self._put_in_order(self._networks[network.id])
            return
        new = self._read(network)
        self._parents.check(new)
        with Undo() as undo:
            undo.push(self._forget, new)
            self._learn(new)
            self._beside.check(new)
            undo.push(self._parents.release, new, self._heirs)
            self._parents.ensure(new)
            undo.push(self._beside.remove, new)
            self._beside.ensure(new, self._parents.link(new))

    def delete_network(self, network_id: NetworkID) -> None:
        """Backwards, whatever fails; what is left is known still, and goes by another call."""
        known = self._networks.get(network_id)
        if known is None:
            self._delete_unknown(network_id)
            return
        teardown = Teardown(f"remove {self.name} network {known.spec.name}")
        for endpoint_id in list(known.endpoints):
            with teardown.step():
                self._children.remove(endpoint_id)
        with teardown.step():
            self._beside.remove(known)
        with teardown.step():
            self._parents.release(known, self._heirs)
        teardown.finish()
        self._forget(known)

    def devices(self) -> Collection[str]:
        """What we made on the host for networks, by name."""
        found: set[str] = set()
        for known in list(self._networks.values()):
            found.update(self._beside.devices(known))
            if known.isolated:
                found.add(known.parent_name)
        return found

    # endpoints

    def create_endpoint(
        self,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        interface: EndpointInterface,
        options: Mapping[str, Any],
    ) -> EndpointInterface:
        """Choose the MAC address, if links of this driver have their own. Nothing is made yet."""
        known = self._known(network_id)
        check_endpoint(options, self.name)
        parent = self._parents.link(known)
        completed = self._kind.complete(known, endpoint_id, interface, parent)
        known.endpoints[endpoint_id] = completed
        return completed

    def delete_endpoint(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """Its link too, if it never left."""
        self.leave(network_id, endpoint_id)
        known = self._networks.get(network_id)
        if known is not None:
            known.endpoints.pop(endpoint_id, None)

    def endpoint_oper_info(
        self, network_id: NetworkID, endpoint_id: EndpointID
    ) -> Mapping[str, Any]:
        """Nothing, as Docker's: what there is to know inspect has already."""
        return {}

    def join(
        self,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        sandbox_key: SandboxKey | None,
        interface_name: str,
        options: Mapping[str, Any],
    ) -> JoinInfo:
        """Make the link, in the sandbox if that is named."""
        known = self._known(network_id)
        interface = known.endpoints.get(endpoint_id)
        if interface is None:
            raise NotFound(f"endpoint {endpoint_id} not found")
        parent = self._parents.link(known)
        with Undo() as undo:
            undo.push(self.leave, network_id, endpoint_id)
            self._children.ensure(
                self._child(known, parent, endpoint_id, interface, sandbox_key, interface_name)
            )
            known.joined[endpoint_id] = interface
            self._beside.ensure(known, parent)
        outside = None if sandbox_key is not None else self._children.outside(endpoint_id)
        return known.join_info(interface, interface_name, outside.name if outside else "")

    def leave(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """Remove the link."""
        known = self._networks.get(network_id)
        teardown = Teardown(f"remove the link of endpoint {endpoint_id[:12]}")
        with teardown.step():
            self._children.remove(endpoint_id)
        joined = known is not None and known.joined.pop(endpoint_id, None) is not None
        # asked first: to look for the parent takes a lock that the deletion holds for 5 ms
        if known is not None and joined and self._beside.devices(known):
            parent = self._parents.find(known)
            if parent is not None:
                with teardown.step():
                    self._beside.ensure(known, parent)
        teardown.finish()

    def link_is_in(self, endpoint_id: EndpointID, sandbox_key: SandboxKey) -> None:
        """See ``LinkFinder``."""
        self._children.place(endpoint_id, sandbox_key)

    # Repairable

    def owned(self) -> Collection[OwnedObject]:
        """Marked links of the host's namespace. Those in sandboxes go with their endpoint."""
        return [
            OwnedObject("link", link.name, network_id=NetworkID(identity))
            if kind == owner.NETWORK
            else OwnedObject("link", link.name, endpoint_id=EndpointID(identity))
            for link, kind, identity in owner.owned_links(self._netlink)
        ]

    def restore(self, network: NetworkSpec, endpoints: Sequence[EndpointState]) -> Sequence[Repair]:
        """The parent, each endpoint's link, then what else the host has, as far as they differ.

        A parent of the host's that is gone is waited for: its networks are put back by the
        first look after it is there again.

        :raises TeardownError: some endpoints could not be restored; the others are.
        """
        known = self._read(network)
        for state in endpoints:
            known.endpoints[state.endpoint_id] = state.interface
            if state.sandbox_key is not None or state.handed_over:
                known.joined[state.endpoint_id] = state.interface
        self._learn(known)
        if not self._has_parent(known):
            return []
        repairs = self._put_parent_in_order(known)
        parent = self._parents.link(known)
        trouble = Teardown(f"restore endpoints of network {network.name}")
        for state in endpoints:
            wanted = self._child(
                known,
                parent,
                state.endpoint_id,
                state.interface,
                state.sandbox_key,
                state.interface_name,
            )
            with trouble.step():
                repairs += self._children.restore(wanted)
        with trouble.step():
            repairs += self._beside.ensure(known, parent)
        trouble.finish()
        return repairs

    def remove_orphan(self, item: OwnedObject) -> None:
        """Looks again first: a link by its mark."""
        link = self._netlink.link(item.name)
        mark = owner.parse(link.alias) if link is not None else None
        if link is not None and mark is not None and mark[1] in (item.network_id, item.endpoint_id):
            self._reaper.delete(link.index)

    def in_use(self, network_id: NetworkID, endpoint_id: EndpointID) -> bool:
        """See ``LinkWatcher``. Without a parent nobody has a link, and nobody is forgotten."""
        known = self._networks.get(network_id)
        if known is not None and self._parents.find(known) is None:
            return True
        return self._children.is_moved(endpoint_id, self.name)

    def diagnose(self) -> Sequence[tuple[str, bool | str, str]]:
        """See ``Diagnostic``."""
        return diagnosis.diagnose(self._netlink, self.name, list(self._networks.values()))

    # inside

    def _known(self, network_id: NetworkID) -> NetworkRecord:
        known = self._networks.get(network_id)
        if known is None:
            raise NotFound(f"network {network_id} not found")
        return known

    def _read(self, network: NetworkSpec) -> NetworkRecord:
        options = self._kind.read(network, self._defaults)
        isolated = short_name(self._kind.isolated_prefix, network.id)
        return NetworkRecord(network, options, self.name, isolated)

    def _refuser(self, wanted: NetworkRecord) -> Any:
        return lambda other: self._kind.refuse_beside(wanted.claim(), other, wanted.parent_name)

    def _learn(self, new: NetworkRecord) -> None:
        self._claims.take(new.parent_name, new.claim(), self._refuser(new))
        self._networks[new.spec.id] = new
        self._follow()

    def _forget(self, known: NetworkRecord) -> None:
        self._networks.pop(known.spec.id, None)
        self._missing.discard(known.spec.id)
        self._claims.give_up(known.parent_name, known.spec.id)
        self._follow()

    def _follow(self) -> None:
        """Have word of parents that go and come back, and of the links below them."""
        known = list(self._networks.values())
        self._monitor.follow({name for item in known for name in item.parent_names})

    def _changed(self, name: str) -> None:
        """A parent is up, and networks may wait for it; or gone: one of ours is made again."""
        for known in list(self._networks.values()):
            if name in known.parent_names:
                self._ask_repair(known.spec.id)

    def _heirs(self, known: NetworkRecord) -> list[NetworkID]:
        """Other networks on its parent, oldest first."""
        holders = self._claims.holders(known.parent_name)
        return [item.network_id for item in holders if item.network_id != known.spec.id]

    def _child(
        self,
        known: NetworkRecord,
        parent: Link,
        endpoint_id: EndpointID,
        interface: EndpointInterface,
        sandbox_key: SandboxKey | None,
        interface_name: str,
    ) -> ChildPlan:
        return ChildPlan(
            endpoint_id,
            known.options.upper,
            parent,
            interface.mac,
            known.options.mtu,
            sandbox_key,
            interface_name,
        )

    def _has_parent(self, known: NetworkRecord) -> bool:
        """Whether there is a parent, or may be one; says so once when it goes and comes."""
        trouble = self._parents.trouble(known)
        if trouble:
            if known.spec.id not in self._missing:
                log.warning("network %s waits for its parent: %s", known.spec.name, trouble)
            self._missing.add(known.spec.id)
            return False
        if known.spec.id in self._missing:
            self._missing.discard(known.spec.id)
            log.info("parent %s of network %s is back", known.parent_name, known.spec.name)
        return True

    def _put_parent_in_order(self, known: NetworkRecord) -> list[Repair]:
        repairs = self._parents.ensure(known)
        return [*repairs, *self._parents.adopt(known, list(self._networks))]

    def _put_in_order(self, known: NetworkRecord) -> None:
        self._put_parent_in_order(known)
        self._beside.ensure(known, self._parents.link(known))

    def _delete_unknown(self, network_id: NetworkID) -> None:
        """A driver just started is told to finish a removal: what is that network's alone goes.

        A parent that others may use stays until they are known: it is then adopted by one
        of them, or an orphan.
        """
        for link, kind, identity in owner.owned_links(self._netlink):
            shared = link.kind == "vlan"
            if kind == owner.NETWORK and identity == network_id and not shared:
                self._reaper.delete(link.index)
