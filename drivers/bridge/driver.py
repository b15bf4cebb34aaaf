"""The bridge driver: a Linux bridge for each network, a veth pair for each endpoint.

Here the calls are put together; the kernel objects are device.py's, veth.py's, ruleset.py's
and forwarding.py's. Called on several networks at once: the core serialises the calls
on one network's definition and those on one sandbox. What is known of networks lives
in two dicts, of which only single atomic operations are used (``setdefault`` to claim a
bridge's name, so that of two networks that want one name only one gets it); what
networks share in the kernel, its owner guards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cnm import labels
from cnm.driverapi import Capability, DriverContext
from cnm.drivers.bridge import diagnosis, hostfirewalls, insight
from cnm.drivers.bridge.device import BridgePlan, Bridges
from cnm.drivers.bridge.firewall import NetworkPolicy
from cnm.drivers.bridge.forwarding import Forwarding
from cnm.drivers.bridge.options import GatewayMode, parse_endpoint, parse_network
from cnm.drivers.bridge.others import OthersForwarding
from cnm.drivers.bridge.porthelper import PortHelper
from cnm.drivers.bridge.publishing import Publishing
from cnm.drivers.bridge.record import NetworkRecord
from cnm.drivers.bridge.ruleset import Ruleset
from cnm.drivers.bridge.veth import Pairs
from cnm.drivers.mac import complete
from cnm.drivers.reaper import Reaper
from cnm.errors import Forbidden, NotFound
from cnm.hostapi import HostSettings
from cnm.runtime.kernel import owner
from cnm.runtime.kernel.departures import Departures
from cnm.runtime.kernel.netlink import Netlink
from cnm.runtime.kernel.nft import LibNft, Nft
from cnm.runtime.kernel.nftgen import Generations
from cnm.types import (
    EndpointID,
    EndpointInterface,
    EndpointState,
    FirewallEntry,
    JoinInfo,
    NetworkID,
    NetworkSpec,
    OwnedObject,
    PortBinding,
    Reach,
    Repair,
    SandboxKey,
)
from cnm.undo import Teardown, Undo

# Under way at once, each a thread that waits 13 ms for RCU: more are deleted in groups.
_DELETIONS = 8
# An owned object of networks that nothing is known of any more, not even an id.
_NO_NETWORK = NetworkID("")


def create(context: DriverContext) -> BridgeDriver:
    """The driver of the namespace of the calling thread."""
    reaper = Reaper([Netlink() for _ in range(_DELETIONS)], Departures())
    helper = PortHelper(context.exec_root)
    return BridgeDriver(Netlink(), LibNft(), reaper, helper, context.settings, context.options)


class BridgeDriver:
    """NetworkDriver and all that is optional but PeerListener, Repairable and RulesOwner."""

    name = "bridge"
    capability = Capability()

    def __init__(
        self,
        netlink: Netlink,
        nft: Nft,
        reaper: Reaper,
        helper: PortHelper,
        settings: HostSettings,
        defaults: Mapping[str, str],
    ) -> None:
        self._netlink = netlink
        self._nft = nft
        self._defaults = defaults
        self._reaper = reaper
        self._bridges = Bridges(netlink, self._reaper)
        self._pairs = Pairs(netlink, self._reaper)
        self._generations = Generations()
        self._ruleset = Ruleset(nft, self._generations.current)
        self._others = OthersForwarding(nft, self._generations.current)
        self._forwarding = Forwarding(settings, netlink, self._ruleset.guard)
        self._publishing = Publishing(helper, self._ruleset, self._pairs, netlink, settings)
        self._networks: dict[NetworkID, NetworkRecord] = {}
        self._bridge_names: dict[str, NetworkID] = {}

    def close(self) -> None:
        """Close its sockets. What it made stays."""
        self._publishing.close()
        self._reaper.close()
        self._generations.close()
        self._nft.close()
        self._netlink.close()

    # NetworkChecker

    def check_network(self, network: NetworkSpec) -> None:
        """Refuse what ``create_network`` would refuse; see there."""
        wanted = NetworkRecord.read(network, self._defaults).bridge
        self._refuse_same_name(wanted, self._bridge_names.get(wanted.name, network.id))
        self._bridges.check(wanted)

    def skip_gateway(self, network: NetworkSpec) -> tuple[bool, bool]:
        """No gateway where the bridge gets no address and containers no route, as Docker."""
        options = parse_network(network, self._defaults)
        inhibited = options.inhibit_ipv4 and network.internal
        return (
            options.mode_ipv4 is GatewayMode.ISOLATED or inhibited,
            options.mode_ipv6 is GatewayMode.ISOLATED,
        )

    # networks

    def create_network(self, network: NetworkSpec) -> None:
        """Rules before the bridge that they are for, forwarding last."""
        known = self._networks.get(network.id)
        if known is not None:
            self._put_in_order(known)
            return
        new = NetworkRecord.read(network, self._defaults)
        with Undo() as undo:
            self._learn(new)
            undo.push(self._forget, new)
            self._bridges.check(new.bridge)
            self._ruleset.add(network.id, self._policy(new))
            undo.push(self._ruleset.remove, network.id)
            undo.push(self._others.remove, network.id)
            self._others.add(network.id, self._policy(new))
            undo.push(self._bridges.delete, new.bridge)  # an adopted one may be half done
            self._bridges.ensure(new.bridge)
            undo.push(self._forwarding.release, network.id)  # of two needs one may be stated
            self._forwarding.need(network)

    def delete_network(self, network_id: NetworkID) -> None:
        """Backwards, whatever fails; what is left is known still, and goes by another call."""
        known = self._networks.get(network_id)
        if known is None:
            self._delete_unknown(network_id)
            return
        teardown = Teardown(f"remove bridge {known.bridge.name}")
        with teardown.step():
            self._publishing.forget_network(network_id)
        for endpoint_id in list(known.endpoints):
            with teardown.step():
                self._pairs.remove(endpoint_id)
        with teardown.step():
            self._forwarding.release(network_id)
        with teardown.step():
            self._bridges.delete(known.bridge)
        with teardown.step():
            self._others.remove(network_id)
        with teardown.step():
            self._ruleset.remove(network_id)
        teardown.finish()
        self._forget(known)

    def devices(self) -> Collection[str]:
        """The bridges, by name."""
        return list(self._bridge_names)

    # endpoints

    def create_endpoint(
        self,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        interface: EndpointInterface,
        options: Mapping[str, Any],
    ) -> EndpointInterface:
        """Choose the MAC, if none is given. Nothing is made yet."""
        known = self._known(network_id)
        parse_endpoint(options)
        known.endpoints[endpoint_id] = completed = complete(endpoint_id, interface)
        return completed

    def delete_endpoint(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """Its ports and its link too, if it never left."""
        self._publishing.revoke(endpoint_id)
        self._pairs.remove(endpoint_id)
        known = self._networks.get(network_id)
        if known is not None:
            known.endpoints.pop(endpoint_id, None)

    def endpoint_oper_info(
        self, network_id: NetworkID, endpoint_id: EndpointID
    ) -> Mapping[str, Any]:
        """Its MAC address."""
        known = self._networks.get(network_id)
        interface = known.endpoints.get(endpoint_id) if known is not None else None
        return {labels.ENDPOINT_MAC: interface.mac} if interface is not None else {}

    def join(
        self,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        sandbox_key: SandboxKey | None,
        interface_name: str,
        options: Mapping[str, Any],
    ) -> JoinInfo:
        """Make the pair, its other end in the sandbox if that is named."""
        known = self._known(network_id)
        interface = known.endpoints.get(endpoint_id)
        if interface is None:
            raise NotFound(f"endpoint {endpoint_id} not found")
        bridge = self._bridges.link(known.bridge)
        self._pairs.ensure(known.pair(bridge, endpoint_id, interface, sandbox_key, interface_name))
        source_name = "" if sandbox_key is not None else self._pairs.peer_name(endpoint_id)
        return known.join_info(endpoint_id, interface, interface_name, source_name)

    def leave(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """Remove the pair; the pairs of several callers go together."""
        self._pairs.remove(endpoint_id)

    # PublishChecker and ExternalConnectivity

    def check_external_connectivity(
        self, network_id: NetworkID, ports: Sequence[PortBinding]
    ) -> None:
        """See ``PublishChecker``."""
        self._publishing.check(self._known(network_id), ports)

    def program_external_connectivity(
        self, network_id: NetworkID, endpoint_id: EndpointID, ports: Sequence[PortBinding]
    ) -> Sequence[PortBinding]:
        """See ``ExternalConnectivity``."""
        known = self._known(network_id)
        interface = known.endpoints.get(endpoint_id)
        if interface is None:
            raise NotFound(f"endpoint {endpoint_id} not found")
        return self._publishing.program(known, endpoint_id, interface, ports)

    def revoke_external_connectivity(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """See ``ExternalConnectivity``."""
        self._publishing.revoke(endpoint_id)

    # FirewallInsight

    def firewall_rules(self) -> Sequence[FirewallEntry]:
        """See ``FirewallInsight``."""
        networks = {
            endpoint_id: item.network_id
            for endpoint_id, item in self._publishing.published().items()
        }
        owners = {
            item: (networks.get(endpoint_id) if endpoint_id else network_id, endpoint_id)
            for item, (network_id, endpoint_id) in self._ruleset.owners().items()
        }
        return list(insight.entries(self._nft, owners))

    def firewall_reach(self) -> Sequence[Reach]:
        """See ``FirewallInsight``."""
        reachability = insight.Reachability(hostfirewalls.barriers(self._nft))
        return [
            reach
            for endpoint_id, item in self._publishing.published().items()
            if (known := self._networks.get(item.network_id)) is not None
            for reach in reachability.of(known, endpoint_id, item)
        ]

    # Repairable

    def owned(self) -> Collection[OwnedObject]:
        """Marked links; of what can carry no mark, that which no known network accounts for.

        Elements of the tables and addresses on adopted bridges are compared with what
        ``restore`` has told: so this is for after it.
        """
        found = [
            OwnedObject("link", link.name, network_id=NetworkID(identity))
            if kind == owner.NETWORK
            else OwnedObject("link", link.name, endpoint_id=EndpointID(identity))
            for link, kind, identity in owner.owned_links(self._netlink)
        ]
        found += [OwnedObject("table", name, _NO_NETWORK) for name in self._ruleset.stale()]
        found += [OwnedObject("chain", name, _NO_NETWORK) for name in self._others.stale()]
        stale = self._publishing.stale(self._records())
        found += [OwnedObject("port", name, _NO_NETWORK) for name in stale]
        strays = self._bridges.stray_addresses(self._plans())
        return found + [OwnedObject("address", str(stray), _NO_NETWORK) for stray in strays]

    def restore(self, network: NetworkSpec, endpoints: Sequence[EndpointState]) -> Sequence[Repair]:
        """Rules, bridge, forwarding, then each endpoint's pair, as far as they differ.

        :raises TeardownError: some endpoints could not be restored; the others are.
        """
        known = NetworkRecord.read(network, self._defaults)
        for state in endpoints:
            known.endpoints[state.endpoint_id] = state.interface
        self._learn(known)
        repairs = self._put_in_order(known)
        bridge = self._bridges.link(known.bridge)
        trouble = Teardown(f"restore endpoints of network {network.name}")
        for state in endpoints:
            wanted = known.pair(
                bridge,
                state.endpoint_id,
                state.interface,
                state.sandbox_key,
                state.interface_name,
            )
            put_right = self._pairs.keep if state.handed_over else self._pairs.restore
            with trouble.step():
                repairs += put_right(wanted)
            with trouble.step():
                repairs += self._publishing.restore(
                    known, state.endpoint_id, state.interface, state.ports
                )
        trouble.finish()
        return repairs

    def restore_rules(self, network_id: NetworkID) -> list[Repair]:
        """See ``RulesOwner``."""
        known = self._networks.get(network_id)
        return self._rules_in_order(known) if known is not None else []

    def remove_orphan(self, item: OwnedObject) -> None:
        """Looks again first: a link by its mark, elements by what is known now."""
        if item.kind == "table":
            self._ruleset.remove_stale()
            return
        if item.kind == "port":
            self._publishing.remove_stale(self._records())
            return
        if item.kind == "chain":
            self._others.remove_stale()
            return
        if item.kind == "address":
            for stray in self._bridges.stray_addresses(self._plans()):
                if str(stray) == item.name:
                    self._bridges.remove_stray_address(stray)
            return
        link = self._netlink.link(item.name)
        mark = owner.parse(link.alias) if link is not None else None
        if link is not None and mark is not None and mark[1] in (item.network_id, item.endpoint_id):
            self._reaper.delete(link.index)

    def in_use(self, network_id: NetworkID, endpoint_id: EndpointID) -> bool:
        """See ``LinkWatcher``."""
        return self._pairs.is_inside(endpoint_id)

    def diagnose(self) -> Sequence[tuple[str, bool | str, str]]:
        """See ``Diagnostic``."""
        return diagnosis.diagnose()

    # inside

    def _known(self, network_id: NetworkID) -> NetworkRecord:
        known = self._networks.get(network_id)
        if known is None:
            raise NotFound(f"network {network_id} not found")
        return known

    def _policy(self, known: NetworkRecord) -> NetworkPolicy:
        return known.policy(adopted=self._bridges.is_adopted(known.bridge))

    def _records(self) -> list[NetworkRecord]:
        return list(self._networks.values())

    def _plans(self) -> list[BridgePlan]:
        return [known.bridge for known in self._records()]

    def _learn(self, new: NetworkRecord) -> None:
        holder = self._bridge_names.setdefault(new.bridge.name, new.spec.id)
        self._refuse_same_name(new.bridge, holder)
        self._networks[new.spec.id] = new

    def _forget(self, known: NetworkRecord) -> None:
        self._networks.pop(known.spec.id, None)
        self._bridge_names.pop(known.bridge.name, None)

    def _refuse_same_name(self, wanted: BridgePlan, holder: NetworkID) -> None:
        if holder != wanted.network_id:
            raise Forbidden(
                f"cannot create network {wanted.network_id} ({wanted.name}): conflicts with "
                f"network {holder} ({wanted.name}): networks have same bridge name"
            )

    def _rules_in_order(self, known: NetworkRecord) -> list[Repair]:
        policy = self._policy(known)
        repairs = self._ruleset.restore(known.spec.id, policy)
        repairs += self._publishing.rules_in_order(known.spec.id)
        return [*repairs, *self._others.add(known.spec.id, policy)]

    def _put_in_order(self, known: NetworkRecord) -> list[Repair]:
        repairs = self._rules_in_order(known)
        repairs += self._bridges.ensure(known.bridge)
        self._forwarding.need(known.spec)
        return repairs

    def _delete_unknown(self, network_id: NetworkID) -> None:
        """A driver just started is told to finish a removal: what carries the mark goes."""
        for link, kind, identity in owner.owned_links(self._netlink):
            if kind == owner.NETWORK and identity == network_id:
                self._reaper.delete(link.index)
