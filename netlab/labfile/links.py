"""Links of a lab file: read where a node declares them, then joined to what they name.

A link needs both its ends, and the other end may be declared further down: so links are
read as drafts first, and resolved when all nodes are known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from cnm.netlab import quantities
from cnm.netlab.labfile import values
from cnm.netlab.labfile.document import Field, Refused, Section, nearest
from cnm.netlab.model import Direction, End, Impairment, Link, Subinterface, Switch
from cnm.types import IPAddress, IPInterface

_END_KEYS = ("interface", "addresses", "mac", "vlans")
_PORT_KEYS = ("vlan", "trunk")
_LINK_KEYS = ("to", "name", "mtu", "impair")
_IMPAIR_KEYS = ("delay", "jitter", "loss", "duplicate", "corrupt", "rate", "direction")


@dataclass(frozen=True, slots=True)
class HalfEnd:
    """An end whose interface may still lack a name."""

    field: Field
    name: str | None
    addresses: tuple[tuple[Field, IPInterface], ...]
    mac: str | None
    subinterfaces: tuple[Subinterface, ...]
    sub_addresses: tuple[tuple[Field, IPInterface], ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A link as a node declares it. ``to`` is not looked up yet."""

    node: str
    on_switch: bool
    field: Field
    to: Field
    name: str | None
    mtu: int | None
    impairment: Impairment | None
    near: HalfEnd
    far: HalfEnd | None
    access: int | None
    trunk: tuple[int, ...]


def read_host_link(host: str, field: Field) -> Draft:
    """A member of a host's ``links``."""
    section = field.section(*_LINK_KEYS, *_END_KEYS, *_PORT_KEYS, "peer")
    far = section.one("peer", lambda item: _end(item, item.section(*_END_KEYS)), None)
    return _draft(host, False, section, _end(field, section), far)


def read_switch_link(switch: str, field: Field) -> Draft:
    """A member of a switch's ``links``: a cable to another switch."""
    section = field.section(*_LINK_KEYS, *_PORT_KEYS)
    return _draft(switch, True, section, HalfEnd(field, None, (), None, (), ()), None)


def _draft(
    node: str, on_switch: bool, section: Section, near: HalfEnd, far: HalfEnd | None
) -> Draft:
    trunk = section.many("trunk", values.vlan)
    access = section.one("vlan", values.vlan, None)
    if access is not None and access in trunk:
        section.field.refuse(f"VLAN {access} is in vlan and trunk: it passes tagged or untagged")
    draft = Draft(
        node=node,
        on_switch=on_switch,
        field=section.field,
        to=section.need("to", _named),
        name=section.one("name", lambda item: item.parsed(values.object_name), None),
        mtu=section.one("mtu", values.mtu, None),
        impairment=section.one("impair", read_impairment, None),
        near=near,
        far=far,
        access=access,
        trunk=trunk,
    )
    _check_mtu(draft)
    return draft


def _named(field: Field) -> Field:
    field.text()
    return field


def _end(field: Field, section: Section) -> HalfEnd:
    addresses = section.many("addresses", _address)
    subinterfaces: list[Subinterface] = []
    sub_addresses: list[tuple[Field, IPInterface]] = []
    name = section.one("interface", _interface, None)

    def read_sub(text: str, item: Field) -> None:
        if not text.isdecimal() or not 1 <= int(text) <= values.VLAN_MAX:
            raise item.refuse(f"a VLAN is a number from 1 to {values.VLAN_MAX}")
        inner = item.section("interface", "addresses")
        found = inner.many("addresses", _address)
        default = f"{name}.{text}" if name else ""  # else when the end has got its name
        own = inner.one("interface", _interface, default)
        if len(own) > values.INTERFACE_LENGTH:
            raise item.refuse(f'"{own}" is too long for an interface: choose an "interface"')
        subinterfaces.append(Subinterface(own, int(text), tuple(value for _, value in found)))
        sub_addresses.extend(found)

    section.named("vlans", read_sub)
    mac = section.one("mac", lambda item: item.parsed(values.mac_address), None)
    return HalfEnd(field, name, addresses, mac, tuple(subinterfaces), tuple(sub_addresses))


def _interface(field: Field) -> str:
    return field.parsed(values.interface_name)


def _address(field: Field) -> tuple[Field, IPInterface]:
    return field, field.parsed(values.interface_address)


def read_impairment(field: Field) -> Impairment:
    """What is wrong with a wire."""
    section = field.section(*_IMPAIR_KEYS)

    def share(key: str) -> float:
        return section.one(key, lambda item: item.parsed(quantities.percent), 0.0)

    made = Impairment(
        delay_s=section.one("delay", lambda item: item.parsed(quantities.seconds), 0.0),
        jitter_s=section.one("jitter", lambda item: item.parsed(quantities.seconds), 0.0),
        loss_percent=share("loss"),
        duplicate_percent=share("duplicate"),
        corrupt_percent=share("corrupt"),
        rate_bit_s=section.one("rate", lambda item: item.parsed(quantities.bits_per_second), None),
        direction=section.one("direction", _direction, "both"),
    )
    if made.jitter_s and not made.delay_s:
        raise field.refuse("jitter needs a delay that it varies")
    return made


def _direction(field: Field) -> Direction:
    return cast(Direction, field.choice("both", "out", "in"))


def _check_mtu(draft: Draft) -> None:
    if draft.mtu is None or draft.mtu >= values.IPV6_MTU_MIN:
        return
    for half in filter(None, (draft.near, draft.far)):
        for field, found in (*half.addresses, *half.sub_addresses):
            if found.version == 6:
                field.refuse(
                    f"IPv6 needs an MTU of {values.IPV6_MTU_MIN} at least, the link has {draft.mtu}"
                )


# all nodes are known


def _port_name(text: str) -> str:
    """Ports are named after what they lead to, as far as that fits."""
    if len(text) <= values.INTERFACE_LENGTH:
        return text
    return f"p{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class Wiring:
    """Turns drafts into links. ``switches`` are names with their field."""

    def __init__(self, hosts: Mapping[str, Field], switches: Mapping[str, Field]) -> None:
        self._hosts = hosts
        self._switches = switches
        self._interfaces: dict[tuple[str, str], Field] = {}
        self._names: dict[str, Field] = {}
        self._near: dict[int, End] = {}
        self._cables = 0

    def links(self, drafts: Sequence[Draft]) -> tuple[Link, ...]:
        """All links whose ends exist; mistakes are noted.

        Chosen names of interfaces come first, and ours go around them; a host's own links have
        the lower numbers, those that others lead to it the higher.
        """
        for draft in drafts:
            self._reserve(draft.node, draft.near)
            if draft.far is not None:
                self._reserve(draft.to.text(), draft.far)
        for draft in drafts:
            if not draft.on_switch:
                self._near[id(draft)] = self._end(draft.node, draft.near)
        return tuple(self._resolved(drafts))

    def _resolved(self, drafts: Iterable[Draft]) -> Iterator[Link]:
        for draft in drafts:
            try:
                yield self._link(draft)
            except Refused:
                continue

    def _link(self, draft: Draft) -> Link:
        to = draft.to.text()
        if to == draft.node:
            raise draft.to.refuse("a link to itself")
        if to in self._switches:
            ends = self._to_switch(draft, to)
        elif draft.on_switch:
            hint = ": declare the link at the host" if to in self._hosts else ""
            raise draft.to.refuse(f'no switch named "{to}"{hint or nearest(to, self._switches)}')
        elif to in self._hosts:
            ends = self._to_host(draft, to)
        else:
            known = (*self._hosts, *self._switches)
            raise draft.to.refuse(f'no host or switch named "{to}"{nearest(to, known)}')
        name = draft.name or str(ends[0])
        other = self._names.get(name)
        if other is not None and draft.name:  # two of one interface are told already
            raise draft.field.refuse(f'the link "{name}" is already in line {other.line}')
        self._names[name] = draft.field
        return Link(name, ends, draft.mtu, draft.impairment)

    def _to_switch(self, draft: Draft, switch: str) -> tuple[End, End]:
        if draft.far is not None:
            raise draft.far.field.refuse("the port of a switch has neither name nor address")
        if draft.on_switch:
            self._cables += 1
            here = _port_name(f"{switch}.{self._cables}")
            near = End(draft.node, here, (), None, draft.access, draft.trunk)
            port = _port_name(f"{draft.node}.{self._cables}")
        else:
            near = self._near[id(draft)]
            port = _port_name(f"{near.node}.{near.interface}")
        return near, End(switch, port, (), None, draft.access, draft.trunk)

    def _to_host(self, draft: Draft, to: str) -> tuple[End, End]:
        if draft.access is not None or draft.trunk:
            raise draft.field.refuse('vlan and trunk are of a switch\'s port; a host has "vlans"')
        near = self._near[id(draft)]
        far = draft.far or HalfEnd(draft.field, None, (), None, (), ())
        return near, self._end(to, far)

    def _end(self, node: str, half: HalfEnd) -> End:
        name = half.name or self._free(node, half.field)
        subs = tuple(
            Subinterface(sub.name or f"{name}.{sub.vlan}", sub.vlan, sub.addresses)
            for sub in half.subinterfaces
        )
        for sub in subs:
            self._take(node, sub.name, half.field)
        return End(
            node, name, tuple(value for _, value in half.addresses), half.mac, subinterfaces=subs
        )

    def _reserve(self, node: str, half: HalfEnd) -> None:
        if half.name is not None and node in self._hosts:
            self._take(node, half.name, half.field)

    def _free(self, node: str, field: Field) -> str:
        number = 0
        while (node, f"eth{number}") in self._interfaces:
            number += 1
        self._interfaces[node, f"eth{number}"] = field
        return f"eth{number}"

    def _take(self, node: str, name: str, field: Field) -> None:
        other = self._interfaces.setdefault((node, name), field)
        if other is not field:
            field.refuse(f'{node} has an interface "{name}" already, in line {other.line}')


def check_addresses(drafts: Iterable[Draft], *, doubles: bool) -> None:
    """Note addresses that two interfaces have. ``doubles``: on two hosts that is allowed."""
    taken: dict[tuple[str, IPAddress], Field] = {}
    for draft in drafts:
        for half, node in ((draft.near, draft.node), (draft.far, draft.to.scalar() or "")):
            for field, found in (*half.addresses, *half.sub_addresses) if half else ():
                if found.ip.is_link_local:
                    continue
                owner = node if doubles else ""
                other = taken.setdefault((owner, found.ip), field)
                if other is not field:
                    field.refuse(
                        f"the address {found.ip} is already at {other.key} in line {other.line}"
                    )


def check_switches(switches: Sequence[Switch], links: Sequence[Link]) -> tuple[Switch, ...]:
    """The switches with what their links ask of them: VLANs, and a tree where there is a ring."""
    filtering = {end.node for link in links for end in link.ends if end.access or end.trunk}
    rings = _in_rings({switch.name for switch in switches}, links)
    return tuple(
        Switch(
            switch.name,
            filtering=switch.filtering or switch.name in filtering,
            stp=switch.stp or switch.name in rings,
        )
        for switch in switches
    )


def _in_rings(names: set[str], links: Sequence[Link]) -> set[str]:
    """Switches of every group that is joined by a ring: without a tree, frames never die there."""
    group = {name: {name} for name in names}
    ringed: set[str] = set()
    for link in links:
        left, right = (end.node for end in link.ends)
        if left not in names or right not in names:
            continue
        if group[left] is group[right]:
            ringed.add(left)
            continue
        joined = group[left] | group[right]
        for name in joined:
            group[name] = joined
    return {name for ring in ringed for name in group[ring]}
