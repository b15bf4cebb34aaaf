"""What ``net firewall`` shows: every rule and element of ours, who reaches published ports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cnm.drivers.bridge import firewall, hostfirewalls
from cnm.drivers.bridge.firewall import Member
from cnm.drivers.bridge.hostfirewalls import Barrier
from cnm.drivers.bridge.publishing import Published
from cnm.drivers.bridge.record import NetworkRecord
from cnm.runtime.kernel.nft import Counted, Nft
from cnm.types import EndpointID, FirewallEntry, NetworkID, PortBinding, Reach

Owner = tuple[NetworkID | None, EndpointID | None]

HOST, LAN, OTHERS, NEIGHBOURS = "this host", "LAN", "other networks", "its own network"
_FAMILIES = {4: ("ip", "inet"), 6: ("ip6", "inet")}


def entries(nft: Nft, owners: Mapping[Member, Owner]) -> Iterator[FirewallEntry]:
    """Both tables of ours, and our chain in the tables of others."""
    for family in (firewall.ROUTED_FAMILY, firewall.SWITCHED_FAMILY):
        for item in nft.counted(family, firewall.TABLE):
            owner = _owner(item, owners)
            yield FirewallEntry(
                family,
                firewall.TABLE,
                item.place,
                item.text,
                item.comment,
                item.packets,
                item.bytes,
                *owner,
            )
    yield from _among_others(nft)


def _owner(item: Counted, owners: Mapping[Member, Owner]) -> Owner:
    if not item.is_element:
        return None, None
    return owners.get(firewall.member(item.place, item.text), (None, None))


def _among_others(nft: Nft) -> Iterator[FirewallEntry]:
    for family, table in hostfirewalls.tables(nft):
        for rule in hostfirewalls.held(nft, family, table) or ():
            purpose = "what is routed is dropped there by default: what our networks need"
            yield FirewallEntry(family, table, hostfirewalls.CHAIN, rule, purpose)


class Reachability:
    """Who reaches a published port, by our rules and by what other firewalls do by default."""

    def __init__(self, barriers: Iterable[Barrier]) -> None:
        self._barriers = list(barriers)

    def of(
        self, known: NetworkRecord, endpoint_id: EndpointID, published: Published
    ) -> Iterator[Reach]:
        for binding in published.bindings:
            for origin, verdict, because in self._each(binding, known, published):
                yield Reach(binding, known.spec.id, endpoint_id, origin, verdict, because)

    def _each(
        self, binding: PortBinding, known: NetworkRecord, published: Published
    ) -> Sequence[tuple[str, bool, str]]:
        host = binding.host_ip
        assert host is not None  # as all that is published
        if not binding.host_port:
            return self._routed(binding, known)
        if host.is_loopback:
            own = "published on a loopback address: it is dropped where it comes from outside"
            rest = [(origin, False, own) for origin in (LAN, OTHERS, NEIGHBOURS)]
            return [(HOST, True, "published on a loopback address"), *rest]
        served = published.container.leads_by(host) is None
        where = "all addresses of the host" if host.is_unspecified else f"address {host}"
        because = f"published on {where}"
        if served:
            because += ", passed on by the port helper"
        return [
            (HOST, True, because),
            *(
                (origin, *self._through(binding, because, served=served))
                for origin in (LAN, OTHERS, NEIGHBOURS)
            ),
        ]

    def _routed(
        self, binding: PortBinding, known: NetworkRecord
    ) -> Sequence[tuple[str, bool, str]]:
        because = "mode routed: the container's own address, on this port"
        lan = self._through(binding, because, served=False)
        icc = "containers of one network" if known.options.icc else "ICC is off"
        return [
            (HOST, True, "the host reaches its containers"),
            (LAN, *lan),
            (OTHERS, *lan),
            (NEIGHBOURS, known.options.icc, icc),
        ]

    def _through(self, binding: PortBinding, because: str, *, served: bool) -> tuple[bool, str]:
        """From outside: past the firewalls of others, or not."""
        hook = "input" if served else "forward"
        barred = [item for item in self._on(hook, binding) if served or not item.is_mended]
        if barred:
            return False, f"{because}; {barred[0]} drops it unless a rule there accepts it"
        unasked = [] if served else self._on("input", binding)
        if unasked:
            would = f"{unasked[0]} would drop it, but is asked of the host's own ports only"
            return True, f"{because}; {would}"
        return True, because

    def _on(self, hook: str, binding: PortBinding) -> list[Barrier]:
        assert binding.host_ip is not None
        families = _FAMILIES[binding.host_ip.version]
        return [
            item
            for item in self._barriers
            if item.chain.hook == hook and item.chain.family in families
        ]
