"""Publishing: the host's port held, then the rules, in one transaction for each endpoint.

Nothing is told to a container; what runs in it need not know. The core serialises calls on one
endpoint. What is published lives here, and in the core's records across restarts.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from cnm.drivers.bridge import portmap, portsockets
from cnm.drivers.bridge.flows import Flows
from cnm.drivers.bridge.porthelper import PortHelper
from cnm.drivers.bridge.portmap import Container
from cnm.drivers.bridge.portprotocol import Key
from cnm.drivers.bridge.record import NetworkRecord
from cnm.drivers.bridge.ruleset import Ruleset
from cnm.drivers.bridge.veth import Pairs
from cnm.errors import CNMError, InvalidParameter, KernelError, PortTaken
from cnm.hostapi import HostSettings
from cnm.runtime.kernel import sysctl
from cnm.runtime.kernel.netlink import Netlink
from cnm.types import (
    EndpointID,
    EndpointInterface,
    IPAddress,
    NetworkID,
    PortBinding,
    Repair,
)
from cnm.undo import Teardown, Undo

_LOOPBACK = ip_network("127.0.0.0/8")


@dataclass(frozen=True, slots=True)
class Published:
    """What an endpoint has."""

    network_id: NetworkID
    container: Container
    bindings: tuple[PortBinding, ...]


class Publishing:
    """The published ports of one namespace."""

    def __init__(
        self,
        helper: PortHelper,
        ruleset: Ruleset,
        pairs: Pairs,
        netlink: Netlink,
        settings: HostSettings,
    ) -> None:
        self._helper = helper
        self._ruleset = ruleset
        self._pairs = pairs
        self._netlink = netlink
        self._settings = settings
        self._flows = Flows(netlink)
        self._published: dict[EndpointID, Published] = {}
        self._under_way: set[EndpointID] = set()
        self._localnet = threading.Lock()  # keeps two first ports of a network apart
        self._loopback_routed: set[NetworkID] = set()
        self._ipv6: bool | None = None

    def close(self) -> None:
        """The helper goes on."""
        self._helper.close()

    def check(self, known: NetworkRecord, ports: Sequence[PortBinding]) -> None:
        """See ``PublishChecker``."""
        held: set[IPAddress] | None = None
        for binding in ports:
            portmap.check(binding)
            if binding.protocol == "sctp" and not portsockets.is_supported("sctp"):
                raise InvalidParameter("cannot publish an SCTP port: this kernel has no SCTP")
            address = binding.host_ip
            if address is None or address.is_unspecified or known.spec.internal:
                continue
            held = held if held is not None else self._flows.local_addresses()
            if address not in held and address not in _LOOPBACK:
                where = f"[{address}]" if address.version == 6 else f"{address}"
                raise InvalidParameter(
                    f"failed to bind host port {where}:{binding.host_port}/{binding.protocol}: "
                    "cannot assign requested address"
                )

    def program(
        self,
        known: NetworkRecord,
        endpoint_id: EndpointID,
        interface: EndpointInterface,
        ports: Sequence[PortBinding],
    ) -> tuple[PortBinding, ...]:
        """See ``ExternalConnectivity``."""
        if known.spec.internal:
            ports = ()  # as Docker: nobody outside reaches these, and nothing is said
        before = self._published.get(endpoint_id)
        if not ports and before is None:
            return ()
        container = Container.of(known, interface)
        had = before.bindings if before is not None else ()
        self._under_way.add(endpoint_id)
        try:
            now = self._change(known, endpoint_id, container, had, ports)
        finally:
            self._under_way.discard(endpoint_id)
        return now.bindings

    def revoke(self, endpoint_id: EndpointID) -> None:
        """Nothing of it is published any more, whatever fails. Unknown is success."""
        known = self._published.get(endpoint_id)
        if known is None:
            return
        teardown = Teardown(f"revoke ports of endpoint {endpoint_id[:12]}")
        with teardown.step():
            self._ruleset.publish(endpoint_id, ())
        with teardown.step():
            self._flows.end_with(known.bindings, known.container)
        with teardown.step():
            self._helper.release(endpoint_id, self._helper.held_by(endpoint_id))
        with teardown.step():
            self._pairs.set_hairpin(endpoint_id, on=False)
        teardown.finish()
        self._published.pop(endpoint_id, None)

    def restore(
        self,
        known: NetworkRecord,
        endpoint_id: EndpointID,
        interface: EndpointInterface,
        bindings: Sequence[PortBinding],
    ) -> list[Repair]:
        """Have the helper and the rules hold these, which are as they were before a restart.

        :raises CNMError: some are taken by now; the others are published.
        """
        if not bindings:
            return []
        container = Container.of(known, interface)
        before = self._published.get(endpoint_id)
        repairs = []
        lost: CNMError | None = None
        held = self._helper.holds(endpoint_id, portmap.keys(bindings))
        if not held or before is None:  # whom the helper serves may differ after an upgrade
            lost = self._hold_again(known, endpoint_id, container, bindings)
        if lost is not None:
            kept = set(self._helper.held_by(endpoint_id))
            bindings = [item for item in bindings if kept.issuperset(portmap.keys([item]))]
        elif not held:
            repairs.append(Repair("port", f"of endpoint {endpoint_id[:12]}", "held again"))
        found = Published(known.spec.id, container, tuple(bindings))
        self._published[endpoint_id] = found
        repairs += self._ruleset.restore_published(
            endpoint_id, portmap.members(bindings, container)
        )
        self._pairs.set_hairpin(endpoint_id, on=True)
        self._route_loopback(known, (item.host_ip for item in bindings if item.host_port))
        # of a daemon killed before it could, and of ports that another program had meanwhile
        self._flows.begin(_without(bindings, before.bindings if before else ()), container)
        if lost is not None:
            raise lost
        return repairs

    def rules_in_order(self, network_id: NetworkID) -> list[Repair]:
        """After somebody else's change of the rules."""
        return [
            repair
            for endpoint_id, found in list(self._published.items())
            if found.network_id == network_id
            for repair in self._ruleset.restore_published(
                endpoint_id, portmap.members(found.bindings, found.container)
            )
        ]

    def forget_network(self, network_id: NetworkID) -> None:
        """With all that is published of it."""
        teardown = Teardown("revoke ports of a network")
        for endpoint_id, found in list(self._published.items()):
            if found.network_id == network_id:
                with teardown.step():
                    self.revoke(endpoint_id)
        with teardown.step(), self._localnet:
            self._loopback_routed.discard(network_id)
            self._settings.release(_holder(network_id))
        teardown.finish()

    def published(self) -> dict[EndpointID, Published]:
        """All, for those who look."""
        return dict(self._published)

    # what nobody accounts for

    def stale(self, networks: Collection[NetworkRecord]) -> list[str]:
        """Ports that the helper holds, and flows that go on, for nobody that is known."""
        ports = [f"{protocol} {at} {port}" for _, (protocol, at, port) in self._stale_ports()]
        flows = [str(flow) for flow in self._flows.stray(networks, self._bindings())]
        return ports + flows

    def remove_stale(self, networks: Collection[NetworkRecord]) -> None:
        """Give back and end all that :meth:`stale` tells."""
        for owner, key in self._stale_ports():
            self._helper.release(owner, [key])
        self._flows.end_stray(networks, self._bindings())

    def _stale_ports(self) -> Iterator[tuple[str, Key]]:
        """Looked at in this order, a call that is under way never seems to be nobody's."""
        holdings, under_way = self._helper.holdings(), set(self._under_way)
        known = {owner: set(portmap.keys(it.bindings)) for owner, it in self.published().items()}
        for key, holding in holdings.items():
            owner = EndpointID(holding[3])
            if owner not in under_way and key not in known.get(owner, ()):
                yield owner, key

    def _bindings(self) -> list[tuple[PortBinding, Container]]:
        found = list(self._published.values())
        return [(binding, item.container) for item in found for binding in item.bindings]

    # inside

    def _change(
        self,
        known: NetworkRecord,
        endpoint_id: EndpointID,
        container: Container,
        had: tuple[PortBinding, ...],
        ports: Sequence[PortBinding],
    ) -> Published:
        wishes = portmap.settle(self._wishes(known, container, ports), had)
        with Undo() as undo:
            with self._holding(endpoint_id, container, wishes, had) as answer:
                # Meanwhile, what needs no answer; nearly all ports are chosen by who asks.
                guessed = [wish.low for wish in wishes]
                bindings = _bindings(wishes, guessed)
                if bool(bindings) != bool(had):
                    undo.push(lambda: self._pairs.set_hairpin(endpoint_id, on=bool(had)))
                    self._pairs.set_hairpin(endpoint_id, on=bool(bindings))
                members = list(portmap.members(bindings, container))
                numbers = answer()
            if numbers != guessed:
                bindings = _bindings(wishes, numbers)
                members = list(portmap.members(bindings, container))
            new = _without(bindings, had)
            gone = _without(had, bindings)
            undo.push(lambda: self._helper.release(endpoint_id, _but(new, had)))
            self._route_loopback(known, (item.host_ip for item in new if item.host_port))
            undo.push(self._ruleset.publish, endpoint_id, list(portmap.members(had, container)))
            self._ruleset.publish(endpoint_id, members)
            self._flows.begin(new, container)
            self._flows.end(gone, container)
        found = Published(known.spec.id, container, bindings)
        if bindings:
            self._published[endpoint_id] = found
        else:
            self._published.pop(endpoint_id, None)
        if gone:
            self._helper.release(endpoint_id, _but(gone, bindings))
        return found

    @contextlib.contextmanager
    def _holding(
        self,
        endpoint_id: EndpointID,
        container: Container,
        wishes: Sequence[portmap.Wish],
        had: Sequence[PortBinding],
    ) -> Iterator[Callable[[], list[int]]]:
        """The port of each wish. The helper is not asked for what it holds like that already."""
        before, held = self._published.get(endpoint_id), dict[Key, int]()
        if before is not None and before.container == container:
            known = set(self._helper.held_by(endpoint_id))
            held = {key: port for key, port in portmap.leads(had) if key in known}
        new = [wish for wish in wishes if not portmap.is_held(wish, held)]
        with self._helper.holding(endpoint_id, portmap.wanted(new, container)) as answer:

            def numbers() -> list[int]:
                found = iter(answer())
                return [wish.low if portmap.is_held(wish, held) else next(found) for wish in wishes]

            yield numbers

    def _hold_again(
        self,
        known: NetworkRecord,
        endpoint_id: EndpointID,
        container: Container,
        bindings: Sequence[PortBinding],
    ) -> CNMError | None:
        """Hold these or, of these, what is not taken by now; and then, what is wrong."""
        wanted = portmap.wanted(self._wishes(known, container, bindings), container)
        try:
            self._helper.hold(endpoint_id, wanted)
        except (PortTaken, InvalidParameter) as error:
            for each in wanted:
                with contextlib.suppress(PortTaken, InvalidParameter):
                    self._helper.hold(endpoint_id, [each])
            return error
        return None

    def _wishes(
        self, known: NetworkRecord, container: Container, ports: Iterable[PortBinding]
    ) -> list[portmap.Wish]:
        if self._ipv6 is None:
            self._ipv6 = portsockets.has_ipv6()
        return portmap.wishes(ports, known, container, ipv6=self._ipv6)

    def _route_loopback(self, known: NetworkRecord, reached: Iterable[IPAddress | None]) -> None:
        """Let the bridge carry what 127.0.0.1 sent; chain *loopback* keeps all others out.

        On a bridge of somebody else's it is put back when the network goes.
        """
        hosts = (host for host in reached if host is not None and host.version == 4)
        if not any(host.is_unspecified or host in _LOOPBACK for host in hosts):
            return
        name = f"net/ipv4/conf/{known.bridge.name}/route_localnet"
        with self._localnet:
            if known.spec.id in self._loopback_routed and sysctl.read(name) == "1":
                return  # and it is known by whom
            link = self._netlink.link(known.bridge.name)
            if link is None:
                raise KernelError(errno.ENODEV, f"bridge {known.bridge.name}")
            if link.alias != known.bridge.mark:
                reason = f"ports of network {known.spec.name} are reached from 127.0.0.1"
                self._settings.need(name, "1", holder=_holder(known.spec.id), reason=reason)
            elif sysctl.read(name) != "1":
                sysctl.write(name, "1")
            self._loopback_routed.add(known.spec.id)


def _bindings(wishes: Sequence[portmap.Wish], numbers: Sequence[int]) -> tuple[PortBinding, ...]:
    """What comes of wishes, each with its port."""
    pairs = zip(wishes, numbers, strict=True)
    return tuple(
        dict.fromkeys(binding for wish, number in pairs for binding in wish.bindings(number))
    )


def _without(bindings: Iterable[PortBinding], others: Sequence[PortBinding]) -> list[PortBinding]:
    if not others:
        return list(bindings)
    left = set(others)
    return [item for item in bindings if item not in left]


def _but(bindings: Iterable[PortBinding], others: Iterable[PortBinding]) -> list[Key]:
    """The helper's keys of some bindings, without those of others."""
    kept = set(portmap.keys(others))
    return [key for key in portmap.keys(bindings) if key not in kept]


def _holder(network_id: NetworkID) -> str:
    return f"publish:{network_id}"
