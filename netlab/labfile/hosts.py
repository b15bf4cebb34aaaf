"""Hosts, routers and switches of a lab file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnm.netlab.labfile import content, links, values
from cnm.netlab.labfile.document import Field
from cnm.netlab.labfile.links import Draft
from cnm.netlab.model import Engine, Host, Link, Route, Switch
from cnm.types import IPNetwork

_HOST_KEYS = (
    *("links", "routes", "sysctls", "nameservers", "search", "processes"),
    *content.DAEMONS,
    *("networks", "containers"),
)
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class HostDraft:
    """A host whose links are not resolved yet, so that its routes cannot be checked."""

    field: Field
    host: Host
    links: tuple[Draft, ...]
    routes: tuple[tuple[Field, Route], ...]


def read_host(name: str, field: Field, images: Sequence[str], *, router: bool) -> HostDraft:
    """A member of ``hosts`` or ``routers``."""
    field.parsed_name(values.host_name)
    section = field.section(*_HOST_KEYS)
    daemons = tuple(
        content.read_daemon(kind, item)
        for kind in content.DAEMONS
        if (item := section.get(kind)) is not None
    )
    engines: list[Engine] = [daemon.kind for daemon in daemons if daemon.kind != "etcd"]
    inside = content.HostContent(engines, images)
    routes = section.many("routes", _route)
    host = Host(
        name,
        router,
        routes=tuple(route for _, route in routes),
        sysctls=section.one("sysctls", values.sysctls, ()),
        nameservers=section.many("nameservers", lambda item: item.parsed(values.address)),
        search=section.many("search", lambda item: item.text()),
        processes=section.named("processes", content.read_process),
        daemons=daemons,
        networks=inside.networks(section),
        containers=inside.containers(section),
    )
    drafts = section.many("links", lambda item: links.read_host_link(name, item))
    return HostDraft(field, host, drafts, routes)


def read_switch(name: str, field: Field) -> tuple[Switch, tuple[Draft, ...]]:
    """A member of ``switches``."""
    field.parsed_name(values.switch_name)
    section = field.section("links", "stp")
    stp = section.one("stp", lambda item: item.boolean(), False)
    drafts = section.many("links", lambda item: links.read_switch_link(name, item))
    return Switch(name, stp=stp), drafts


def _route(field: Field) -> tuple[Field, Route]:
    section = field.section("to", "via", "dev", "metric")
    gateway = section.one("via", lambda item: item.parsed(values.address), None)
    interface = section.one("dev", lambda item: item.text(), None)
    to = section.get("to")
    destination = _destination(to) if to is not None else None
    if gateway is None and interface is None:
        raise field.refuse('needs "via" (a gateway) or "dev" (an interface)')
    if destination is None and gateway is None:
        raise field.refuse('a default route needs "via"')
    if destination is not None and gateway is not None and destination.version != gateway.version:
        raise field.refuse(f"{destination} cannot be reached via {gateway}: not of one family")
    metric = section.one("metric", lambda item: item.integer(0, 2**32 - 1), None)
    return field, Route(destination, gateway, interface, metric)


def _destination(field: Field) -> IPNetwork | None:
    return None if field.scalar() == _DEFAULT else field.parsed(values.network)


def check_routes(draft: HostDraft, found: Sequence[Link]) -> None:
    """Note routes by interfaces that are not there, or gateways that no link reaches."""
    if draft.field.flawed("links"):
        return  # a gateway out of reach would only follow from that
    ends = [end for link in found for end in link.ends if end.node == draft.host.name]
    names = {end.interface for end in ends} | {
        sub.name for end in ends for sub in end.subinterfaces
    }
    networks = [address.network for end in ends for address in end.every_address]
    for field, route in draft.routes:
        if route.interface is not None and route.interface not in names:
            field.refuse(f'{draft.host.name} has no interface "{route.interface}"')
        elif route.interface is None and route.gateway is not None:
            if not any(route.gateway in network for network in networks):
                field.refuse(
                    f"the gateway {route.gateway} is in no subnet of {draft.host.name}'s links"
                )
