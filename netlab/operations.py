"""What is done to a lab that is up: checks, wires impaired and cut, taps, pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cnm.netlab import impair, vantages
from cnm.netlab.capture import Tap
from cnm.netlab.check import Checker
from cnm.netlab.engineapi import EngineApi
from cnm.netlab.errors import LabError
from cnm.netlab.graph.picture import EngineSeen, Picture, interfaces, look
from cnm.netlab.host import SOCKETS
from cnm.netlab.lab import Lab
from cnm.netlab.labfile.document import nearest
from cnm.netlab.model import Impairment, Link, Place


def checker(lab: Lab) -> Checker:
    """Runs the checks of a lab that is up."""
    return Checker(lab.spec, vantages.finder(lab), lab.namespace_of)


def links_of(lab: Lab, name: str) -> Sequence[Link]:
    """The link of that name (or end), or all links of the node of that name.

    :raises LabError: there is neither.
    """
    link = lab.spec.link(name)
    if link is not None:
        return [link]
    found = [link for link, _ in lab.spec.links_of(name)]
    if found:
        return found
    raise LabError(f'lab {lab.name} has no link, host or switch "{name}"{_like(lab, name)}')


def _like(lab: Lab, name: str) -> str:
    ends = (str(end) for link in lab.spec.links for end in link.ends)
    nodes = (end.node for link in lab.spec.links for end in link.ends)
    named = (link.name for link in lab.spec.links)
    return nearest(name, sorted({*ends, *nodes, *named}))


# impairments


def apply_impairment(lab: Lab, link: Link, wish: Impairment) -> None:
    """Have exactly this wrong with a link. :raises LabError: the kernel cannot; nothing changed."""
    impair.apply(lab.wire(link), wish)


def cut(lab: Lab, name: str) -> Sequence[Link]:
    """Cut a link, or all links of a node; which they were."""
    found = links_of(lab, name)
    for link in found:
        impair.cut(lab.wire(link))
    return found


def heal(lab: Lab, name: str | None = None) -> Sequence[Link]:
    """Have links (one, a node's, or all) as the lab file says; those that were not."""
    healed = []
    for link in lab.spec.links if name is None else links_of(lab, name):
        there = lab.wire(link)
        before = impair.read(there)
        impair.mend(there)
        impair.apply(there, link.impairment or Impairment())
        if str(impair.read(there)) != str(before):
            healed.append(link)
    return healed


def trouble(lab: Lab, name: str) -> str:
    """What is wrong with a link now, in words; empty: nothing."""
    link = lab.spec.link(name)
    seen = impair.read(lab.wire(link)) if link else None
    return str(seen) if seen else ""


# taps


def tap(lab: Lab, name: str) -> Tap:
    """Where to listen: a link, one end of it, or a container's interface.

    ``LINK``, ``NODE:INTERFACE``, ``HOST/CONTAINER`` or ``HOST/CONTAINER:INTERFACE``.

    :raises LabError: there is no such thing.
    """
    if "/" in name:
        return _container_tap(lab, name)
    link = lab.spec.link(name)
    if link is not None:
        end = next((end for end in link.ends if str(end) == name), link.ends[0])
        return Tap(lab.namespace_of(end.node), end.interface)
    node, colon, interface = name.partition(":")
    if colon and lab.spec.host(node) is not None:
        space = lab.namespace_of(node)
        if any(item.name == interface for item in interfaces(space)) or interface in ("any", "lo"):
            return Tap(space, interface)
        raise LabError(f'{node} has no interface "{interface}"')
    raise LabError(f'lab {lab.name} has no link "{name}"{_like(lab, name)}')


def _container_tap(lab: Lab, name: str) -> Tap:
    place, _, interface = name.partition(":")
    host, _, container = place.partition("/")
    space = vantages.finder(lab)(Place(host, container)).netns
    found = [item.name for item in interfaces(space)]
    if interface and interface not in found:
        raise LabError(f'{place} has no interface "{interface}" (it has: {", ".join(found)})')
    if not found:
        raise LabError(f"{place} has no interface but lo: name it, {place}:lo")
    return Tap(space, interface or found[0])


# pictures


def picture(lab: Lab) -> Picture:
    """The lab as it is now."""
    return look(
        lab.spec,
        lab.namespace_of,
        lambda host: list(_engines(lab, host)),
        lambda link: trouble(lab, link),
    )


def _engines(lab: Lab, name: str) -> Iterator[EngineSeen]:
    host = lab[name]
    for daemon in host.spec.daemons:
        if daemon.kind not in SOCKETS:
            continue
        try:
            with host.api(daemon.kind) as api:
                networks = api.get("/networks")
                containers = list(_containers(api))
        except OSError:
            continue  # a daemon that does not run has nothing to show, its kernel objects do
        spaces = {
            item["Id"]: vantages.namespace(host, item)
            for item in containers
            if item["State"]["Running"]
        }
        yield EngineSeen(networks, containers, spaces)


def _containers(api: EngineApi) -> Iterator[dict[str, Any]]:
    for item in api.get("/containers/json", all="true"):
        yield api.get(f"/containers/{item['Id']}/json")
