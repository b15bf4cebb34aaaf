"""The links of endpoints, each made in its sandbox on top of a link of the host.

Nothing of such a link is left outside: where an endpoint's is must be told (``place``), by the
call that makes it or by who removes what another run of the daemon made. It is known there
by its alias, and before it has one by its group, which the message that makes it sets.

It gets its final name there, by the message that marks it. Making it with that name was left: a
kernel before 6.13 refuses the name of a link of the host's, though it is made elsewhere, and
both are called eth0 as a rule.

For an engine that moves links itself (no sandbox is named) it waits in the host's namespace,
under a name that derives from the endpoint's id.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from cnm.drivers.reaper import Reaper
from cnm.errors import KernelError
from cnm.runtime.kernel import owner
from cnm.runtime.kernel.departures import Departures
from cnm.runtime.kernel.netlink import Link, Netlink, Upper
from cnm.runtime.kernel.netns import NetNS
from cnm.types import EndpointID, Repair, SandboxKey
from cnm.undo import Undo

_DIGITS = 7
_ID_DIGITS = 64
# A namespace that is gone, its mount point or its process: open(2) and the check of its kind.
_NAMESPACE_GONE = (errno.ENOENT, errno.ESRCH, errno.EINVAL, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """A link as it should be. ``mac`` ``None``: the kernel's choice, or the parent's."""

    endpoint_id: EndpointID
    upper: Upper
    parent: Link
    mac: str | None
    mtu: int | None
    sandbox_key: SandboxKey | None
    interface_name: str

    @property
    def inside_mark(self) -> str:
        """Its alias in a sandbox."""
        return owner.inside_mark(self.endpoint_id)

    @property
    def group(self) -> int:
        """Its group, there from the first moment."""
        return owner.inside_group(self.endpoint_id)


class Children:
    """The endpoints' links on the parents of one namespace. ``prefix``: of names outside."""

    def __init__(self, netlink: Netlink, reaper: Reaper, prefix: str) -> None:
        self._netlink = netlink
        self._reaper = reaper
        self._prefix = prefix
        self._places: dict[EndpointID, SandboxKey] = {}
        self._moved_to: dict[EndpointID, int] = {}  # where it was last seen, by number

    def place(self, endpoint_id: EndpointID, sandbox_key: SandboxKey) -> None:
        """Remember where an endpoint's link is, or may be."""
        self._places[endpoint_id] = sandbox_key

    def ensure(self, wanted: ChildPlan) -> list[Repair]:
        """Make the link, or put right what differs in one that stands; what was done.

        :raises KernelError: EEXIST: the sandbox has a link of that name; EBUSY: the parent is
            taken; ENOENT and the like: the namespace is gone.
        """
        if wanted.sandbox_key is None:
            return self._ensure_outside(wanted)
        self.place(wanted.endpoint_id, wanted.sandbox_key)
        with closing(NetNS(wanted.sandbox_key)) as sandbox:
            return self._ensure_inside(wanted, sandbox)

    def restore(self, wanted: ChildPlan) -> list[Repair]:
        """As ``ensure``; a link whose namespace is gone went with it."""
        if wanted.sandbox_key is None:
            return []
        try:
            return self.ensure(wanted)
        except KernelError as error:
            if error.errno in _NAMESPACE_GONE and not _is_there(wanted.sandbox_key):
                return []
            raise

    def remove(self, endpoint_id: EndpointID) -> None:
        """Remove the link, wherever it is. Already gone is success."""
        key = self._places.get(endpoint_id)
        if key is not None:
            self._remove_inside(endpoint_id, key)
        outside = self.outside(endpoint_id)
        if outside is not None:
            self._reaper.delete(outside.index)
        self._places.pop(endpoint_id, None)
        self._moved_to.pop(endpoint_id, None)

    def outside(self, endpoint_id: EndpointID) -> Link | None:
        """The link in the host's namespace, that waits for an engine to move it."""
        mark = owner.endpoint_mark(endpoint_id)
        for name in self._names(endpoint_id):
            index = self._netlink.index(name)
            link = self._netlink.link(index) if index is not None else None
            if link is not None and link.alias == mark:
                return link
        return None

    def is_moved(self, endpoint_id: EndpointID, kind: str) -> bool:
        """Whether the link is where an engine moved it: it keeps the alias that it waited with.

        By that move the kernel gave the other namespace a number here, by which it is asked. A
        namespace may have a number for itself.
        """
        if self.outside(endpoint_id) is not None:
            return False
        mark = owner.endpoint_mark(endpoint_id)
        last = self._moved_to.get(endpoint_id)
        numbers = [] if last is None else [last]
        for number in [*numbers, *self._netlink.namespaces()]:
            if any(link.alias == mark for link in self._netlink.links_in(number, kind=kind)):
                self._moved_to[endpoint_id] = number
                return True
        return False

    # inside a sandbox

    def _ensure_inside(self, wanted: ChildPlan, sandbox: NetNS) -> list[Repair]:
        found = _find(sandbox, wanted.endpoint_id)
        fits = found is not None and found.peer_index == wanted.parent.index
        if found is not None and fits and found.name == wanted.interface_name:
            return self._put_right(wanted, found, sandbox)
        if found is not None:  # renamed, or on another link that had the parent's name
            self._delete(found, sandbox)
        with Undo() as undo:
            undo.push(self.remove, wanted.endpoint_id)
            first_name = self._free_name(wanted.endpoint_id)
            self._add(wanted, first_name, sandbox)
            self._finish(wanted, first_name, sandbox)
        action = f"created again for endpoint {wanted.endpoint_id[:12]}"
        return [Repair("link", wanted.interface_name, action)]

    def _finish(self, wanted: ChildPlan, first_name: str, sandbox: NetNS) -> None:
        """Name and mark it."""
        batch = sandbox.netlink().batch()
        batch.set_link(first_name, name=wanted.interface_name, alias=wanted.inside_mark)
        try:
            batch.commit()
        except KernelError as error:
            if error.errno != errno.EEXIST:
                raise
            where = f"link {wanted.interface_name} in {wanted.sandbox_key}"
            raise KernelError(errno.EEXIST, where) from error

    def _put_right(self, wanted: ChildPlan, found: Link, sandbox: NetNS) -> list[Repair]:
        done = []
        batch = sandbox.netlink().batch()
        if wanted.mtu is not None and found.mtu != wanted.mtu:
            batch.set_link(found.index, mtu=wanted.mtu)
            done.append(f"MTU set to {wanted.mtu} again")
        if wanted.mac is not None and found.mac != wanted.mac:
            batch.set_link(found.index, mac=wanted.mac)
            done.append(f"MAC address set to {wanted.mac} again")
        if found.upper != wanted.upper:  # of an ipvlan the parent's, and so all links' on it
            batch.set_upper(found.index, wanted.upper)
            done.append("mode set again")
        if found.alias != wanted.inside_mark:
            batch.set_link(found.index, alias=wanted.inside_mark)
            done.append("marked again")
        batch.commit()
        whose = f"{found.name} of endpoint {wanted.endpoint_id[:12]}"
        return [Repair("link", whose, action) for action in done]

    def _remove_inside(self, endpoint_id: EndpointID, key: SandboxKey) -> None:
        try:
            sandbox = NetNS(key)
        except KernelError as error:
            if error.errno not in _NAMESPACE_GONE:
                raise
            return
        with closing(sandbox):
            found = _find(sandbox, endpoint_id)
            if found is not None:
                self._delete(found, sandbox)

    def _delete(self, found: Link, sandbox: NetNS) -> None:
        deleter, watch = sandbox.run(lambda: (Netlink(), Departures()))
        self._reaper.delete_elsewhere(found.index, deleter, watch)

    # outside

    def _ensure_outside(self, wanted: ChildPlan) -> list[Repair]:
        if self.outside(wanted.endpoint_id) is not None:
            return []
        name = self._free_name(wanted.endpoint_id)
        with Undo() as undo:
            undo.push(self.remove, wanted.endpoint_id)
            self._add(wanted, name, None)
        return [Repair("link", name, "created again")]

    def _names(self, endpoint_id: EndpointID) -> Iterator[str]:
        """The names that a link outside may have, in the order they are tried."""
        for at in range(0, _ID_DIGITS - _DIGITS, _DIGITS):
            yield self._prefix + endpoint_id[at : at + _DIGITS]

    def _free_name(self, endpoint_id: EndpointID) -> str:
        for name in self._names(endpoint_id):
            if self._netlink.index(name) is None:
                return name
        raise KernelError(errno.EEXIST, f"link {self._prefix}{endpoint_id[:_DIGITS]}")

    # both

    def _add(self, wanted: ChildPlan, name: str, sandbox: NetNS | None) -> None:
        try:
            self._netlink.batch().add_upper(
                name,
                wanted.upper,
                parent=wanted.parent.index,
                ns_fd=sandbox.fd if sandbox is not None else None,
                mac=wanted.mac,
                mtu=wanted.mtu,
                alias="" if sandbox is not None else owner.endpoint_mark(wanted.endpoint_id),
                group=wanted.group,
            ).commit()
        except KernelError as error:
            raise _explained(error, wanted) from error


def _explained(error: KernelError, wanted: ChildPlan) -> KernelError:
    if error.errno == errno.EBUSY:
        what = f"failed to create the {wanted.upper.kind} port: device or resource busy"
        detail = (
            f"{wanted.parent.name} is a port of a bridge or bond, or has links of another kind or "
            "mode"
        )
        return KernelError(errno.EBUSY, what, detail)
    return KernelError(error.errno, f"failed to create the {wanted.upper.kind} port", str(error))


def _find(sandbox: NetNS, endpoint_id: EndpointID) -> Link | None:
    mark, group = owner.inside_mark(endpoint_id), owner.inside_group(endpoint_id)
    links = sandbox.netlink().links()
    found = [link for link in links if link.alias == mark]
    found += [link for link in links if link.group == group]
    return found[0] if found else None


def _is_there(key: SandboxKey) -> bool:
    try:
        NetNS(key).close()
    except KernelError:
        return False
    return True
