"""``/cnm/v1``: ports of containers that run, and what our firewall says of them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from cnm.core import portdocs
from cnm.core.facade import Core
from cnm.engine import ports
from cnm.engine.answers import Json
from cnm.engine.createbody import PortBody
from cnm.engine.ours import PREFIX
from cnm.engine.wire import Wire
from cnm.types import EndpointID, FirewallEntry, NetworkID, PortBinding, Reach


class PortsBody(Wire):
    """Which ports. No ``PortBindings``: all of them."""

    port_bindings: dict[str, list[PortBody] | None] | None = Field(
        default=None, alias="PortBindings"
    )


def routes(core: Core) -> APIRouter:
    """All paths of this kind."""
    router = APIRouter(prefix=PREFIX, tags=["cnm"])

    @router.post("/containers/{reference}/publish")
    def publish(reference: str, body: PortsBody | None = None) -> Response:
        """Publish more ports of a container, while it runs or for when it does."""
        wanted = tuple(ports.bindings((body and body.port_bindings) or {}))
        return _answer(core.ports.publish(reference, wanted))

    @router.post("/containers/{reference}/unpublish")
    def unpublish(reference: str, body: PortsBody | None = None) -> Response:
        """Take published ports back: these, or all."""
        given = body.port_bindings if body else None
        wanted = None if given is None else tuple(ports.bindings(given))
        return _answer(core.ports.unpublish(reference, wanted))

    @router.get("/firewall/rules")
    def firewall_rules() -> Response:
        """Every rule, and every element of a set or map, that is ours."""
        return Json({"Rules": [_entry(core, item) for item in core.ports.firewall_rules()]})

    @router.get("/firewall/reach")
    def firewall_reach() -> Response:
        """Who can reach each published port, and what says so."""
        return Json({"Ports": [_reach(core, item) for item in core.ports.firewall_reach()]})

    return router


def _answer(bound: tuple[PortBinding, ...]) -> Response:
    return Json({"Ports": portdocs.bound((), bound)})


def _entry(core: Core, entry: FirewallEntry) -> dict[str, Any]:
    return {
        "Family": entry.family,
        "Table": entry.table,
        "Place": entry.place,
        "Text": entry.text,
        "Purpose": entry.purpose,
        "Packets": entry.packets,
        "Bytes": entry.bytes,
        "Network": _network(core, entry.network_id),
        "Container": _container(core, entry.endpoint_id),
    }


def _reach(core: Core, reach: Reach) -> dict[str, Any]:
    port = reach.binding
    return {
        "Container": _container(core, reach.endpoint_id),
        "Network": _network(core, reach.network_id),
        "PrivatePort": port.container_port,
        "Type": port.protocol,
        "IP": str(port.host_ip or ""),
        "PublicPort": port.host_port,
        "From": reach.origin,
        "Reaches": reach.verdict,
        "Because": reach.because,
    }


def _network(core: Core, network_id: NetworkID | None) -> str:
    """By name; one that has just gone by its id."""
    return core.ports.network_name(network_id) if network_id else ""


def _container(core: Core, endpoint_id: EndpointID | None) -> str:
    return core.ports.container_name(endpoint_id) if endpoint_id else ""
