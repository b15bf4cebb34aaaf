"""The veth pair of an endpoint: one end a port of the bridge, the other in the sandbox.

The host's end is called ``veth`` and seven digits of the endpoint's id (the next seven
where a link of somebody else has that name) and carries the endpoint's mark. The other
end is made in its place by the same message, under its final name: moving a link costs
14 ms, making it in place 0.8. Both names and the mark derive from the endpoint's id, so
nothing is remembered here.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from cnm.drivers.reaper import Reaper
from cnm.errors import KernelError
from cnm.runtime.kernel import owner
from cnm.runtime.kernel.netlink import Link, Netlink
from cnm.runtime.kernel.netns import NetNS
from cnm.types import EndpointID, Repair, SandboxKey
from cnm.undo import Undo

_DIGITS = 7
_HOST = "veth"
_PEER = "vp"
_ID_DIGITS = 64
# A namespace that is gone, its mount point or its process: open(2) and the check of its kind.
_NAMESPACE_GONE = (errno.ENOENT, errno.ESRCH, errno.EINVAL)


@dataclass(frozen=True, slots=True)
class PairPlan:
    """A pair as it should be. Without a ``sandbox_key`` both ends are in the host's namespace."""

    endpoint_id: EndpointID
    mac: str | None
    sandbox_key: SandboxKey | None
    interface_name: str
    bridge: Link
    mtu: int
    group: int

    @property
    def mark(self) -> str:
        """The alias of the host's end."""
        return owner.endpoint_mark(self.endpoint_id)

    @property
    def inside_mark(self) -> str:
        """The alias of the sandbox's end."""
        return owner.inside_mark(self.endpoint_id)


class Pairs:
    """The pairs of one namespace."""

    def __init__(self, netlink: Netlink, reaper: Reaper) -> None:
        self._netlink = netlink
        self._reaper = reaper

    def find(self, endpoint_id: EndpointID) -> Link | None:
        """The host's end of an endpoint's pair."""
        mark, mac = owner.endpoint_mark(endpoint_id), _host_mac(endpoint_id)
        for name in _names(_HOST, endpoint_id):
            index = self._netlink.index(name)
            link = self._netlink.link(index) if index is not None else None
            # the MAC tells one whose mark could not be set
            if link is not None and (link.alias == mark or link.mac == mac):
                return link
        return None

    def ensure(self, wanted: PairPlan) -> list[Repair]:
        """Make the pair, or put right what differs in one that stands; what was done.

        An end that is made in a sandbox gets no mark yet: who configures it marks it as well,
        in the same request; one that is found without it is made again.

        :raises KernelError: EEXIST: the sandbox has a link of that name; ENOENT and the
            like: the namespace is gone.
        """
        if wanted.sandbox_key is None:
            return self._ensure(wanted, None)
        with closing(NetNS(wanted.sandbox_key)) as sandbox:
            return self._ensure(wanted, sandbox, mark=False)

    def restore(self, wanted: PairPlan) -> list[Repair]:
        """As ``ensure``; where the namespace is gone, what is left of the pair goes."""
        if wanted.sandbox_key is None:
            return self._remove_stale(wanted.endpoint_id)
        try:
            sandbox = NetNS(wanted.sandbox_key)
        except KernelError as error:
            if error.errno not in _NAMESPACE_GONE:
                raise
            return self._remove_stale(wanted.endpoint_id)
        with closing(sandbox):
            return self._ensure(wanted, sandbox)

    def keep(self, wanted: PairPlan) -> list[Repair]:
        """Put the host's end right, if there is one: the other is where an engine has put it."""
        found = self.find(wanted.endpoint_id)
        return self._put_right(wanted, found) if found is not None else []

    def remove(self, endpoint_id: EndpointID) -> bool:
        """Remove both ends; whether there were any."""
        index = self._find_index(endpoint_id)
        if index is not None:
            self._reaper.delete(index)
        return index is not None

    def set_hairpin(self, endpoint_id: EndpointID, *, on: bool) -> None:
        """Let frames leave by the port they came from: a container that asks for its own port.

        Needed with ``bridge-nf-call-iptables`` only: what is sent to the host and translated
        is then bridged, not routed (net/bridge/br_netfilter_hooks.c). Gone is success.
        """
        index = self._find_index(endpoint_id)
        if index is not None:
            self._netlink.batch().set_hairpin(index, on=on).commit()

    def _find_index(self, endpoint_id: EndpointID) -> int | None:
        """As ``find``. The MAC alone is read without the kernel's lock, which deletions hold."""
        mac, foreign = _host_mac(endpoint_id), False
        for name in _names(_HOST, endpoint_id):
            found_mac = self._netlink.mac(name)
            if found_mac == mac:
                return self._netlink.index(name)
            foreign = foreign or found_mac is not None
        found = self.find(endpoint_id) if foreign else None  # its MAC may have been changed
        return found.index if found is not None else None

    def is_inside(self, endpoint_id: EndpointID) -> bool:
        """Whether the pair is there and its other end in another namespace."""
        return self.find(endpoint_id) is not None and self._waiting(endpoint_id) is None

    def peer_name(self, endpoint_id: EndpointID) -> str:
        """The other end's name in the host's namespace, where it waits to be moved."""
        waiting = self._waiting(endpoint_id)
        return waiting or next(_names(_PEER, endpoint_id))  # it was moved already

    def _waiting(self, endpoint_id: EndpointID) -> str | None:
        for name in _names(_PEER, endpoint_id):
            index = self._netlink.index(name)
            link = self._netlink.link(index) if index is not None else None
            if link is not None and link.alias == owner.inside_mark(endpoint_id):
                return name
        return None

    def _remove_stale(self, endpoint_id: EndpointID) -> list[Repair]:
        if not self.remove(endpoint_id):
            return []
        return [Repair("link", _name(endpoint_id), "removed: its namespace is gone")]

    def _ensure(
        self, wanted: PairPlan, sandbox: NetNS | None, *, mark: bool = True
    ) -> list[Repair]:
        found = self.find(wanted.endpoint_id)
        if found is not None and sandbox is None:
            return self._put_right(wanted, found)  # where the other end is now, nobody tells us
        if found is not None and sandbox is not None:
            inside = sandbox.netlink().link(wanted.interface_name)
            if inside is not None and inside.alias == wanted.inside_mark:
                return [
                    *self._put_right(wanted, found),
                    *self._put_inside_right(wanted, inside, sandbox),
                ]
            self._reaper.delete(found.index)  # its other end is not where it should be
        name = self._create(wanted, sandbox, mark=mark)
        return [Repair("link", name, f"created again for endpoint {wanted.endpoint_id[:12]}")]

    # making

    def _create(self, wanted: PairPlan, sandbox: NetNS | None, *, mark: bool) -> str:
        name = self._free_name(_HOST, wanted.endpoint_id)
        inside_name, peer_alias = wanted.interface_name, ""
        if sandbox is None:
            inside_name = self._free_name(_PEER, wanted.endpoint_id)
            peer_alias = wanted.inside_mark
        with Undo() as undo:
            undo.push(self.remove, wanted.endpoint_id)  # a batch may have come half-way
            batch = self._netlink.batch().add_veth(
                name,
                peer_name=inside_name,
                peer_ns_fd=sandbox.fd if sandbox is not None else None,
                mac=_host_mac(wanted.endpoint_id),
                mac_peer=wanted.mac,
                mtu=wanted.mtu,
                master=wanted.bridge.index,
                alias=wanted.mark,
                peer_alias=peer_alias,
                group=wanted.group,
            )
            try:
                batch.commit()
            except KernelError as error:
                if error.errno == errno.EEXIST and self._netlink.index(name) is None:
                    where = f"link {inside_name} in {wanted.sandbox_key}"
                    raise KernelError(errno.EEXIST, where) from error
                raise
            if sandbox is not None and mark:
                marking = sandbox.netlink().batch()
                marking.set_link(inside_name, alias=wanted.inside_mark).commit()
        return name

    def _free_name(self, prefix: str, endpoint_id: EndpointID) -> str:
        for name in _names(prefix, endpoint_id):
            if self._netlink.index(name) is None:
                return name
        raise KernelError(errno.EEXIST, f"link {prefix}{endpoint_id[:_DIGITS]}")

    # putting right

    def _put_right(self, wanted: PairPlan, found: Link) -> list[Repair]:
        done = []
        batch = self._netlink.batch()
        if found.master != wanted.bridge.index:
            batch.set_link(found.index, master=wanted.bridge.index)
            done.append(f"enslaved to {wanted.bridge.name} again")
        if found.mtu != wanted.mtu:
            batch.set_link(found.index, mtu=wanted.mtu)
            done.append(f"MTU set to {wanted.mtu} again")
        if (found.alias, found.group) != (wanted.mark, wanted.group):
            batch.set_link(found.index, alias=wanted.mark, group=wanted.group)
            done.append("marked again")
        if not found.up:
            batch.set_link(found.index, up=True)
            done.append("set up again")
        batch.commit()
        return [Repair("link", found.name, action) for action in done]

    def _put_inside_right(self, wanted: PairPlan, inside: Link, sandbox: NetNS) -> list[Repair]:
        if inside.mtu == wanted.mtu:
            return []
        sandbox.netlink().batch().set_link(inside.index, mtu=wanted.mtu).commit()
        action = f"MTU set to {wanted.mtu} again"
        return [Repair("link", f"{inside.name} of endpoint {wanted.endpoint_id[:12]}", action)]


def _name(endpoint_id: EndpointID) -> str:
    return next(_names(_HOST, endpoint_id))


def _names(prefix: str, endpoint_id: EndpointID) -> Iterator[str]:
    """The names that a link of the endpoint may have, in the order they are tried."""
    for at in range(0, _ID_DIGITS - _DIGITS, _DIGITS):
        yield prefix + endpoint_id[at : at + _DIGITS]


def _host_mac(endpoint_id: EndpointID) -> str:
    """Of the host's end: nobody talks to it, but it proves whose the link is."""
    return ":".join(("0e", *(endpoint_id[at : at + 2] for at in range(0, 10, 2))))
