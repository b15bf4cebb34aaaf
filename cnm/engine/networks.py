"""``/networks``: create, list, inspect, connect, disconnect, delete, prune."""

from __future__ import annotations

import time
from collections.abc import Callable

from fastapi import APIRouter, Request
from starlette.responses import Response

from cnm.core.facade import Core
from cnm.engine import shape, times
from cnm.engine.addressing import endpoint_request, network_request
from cnm.engine.answers import Json
from cnm.engine.filters import Filters
from cnm.engine.frame import asked_version
from cnm.engine.versions import ApiVersion
from cnm.engine.wire import ConnectBody, DisconnectBody, NetworkCreateBody
from cnm.errors import CNMError, InvalidParameter, NotFound
from cnm.types import Network

_LIST_KEYS = {"name", "id", "driver", "scope", "label", "type", "dangling"}
_PRUNE_KEYS = {"label", "label!", "until"}
_ENABLE_IPV4 = ApiVersion(1, 48)
_MAC_ON_CONNECT = ApiVersion(1, 54)


def routes(core: Core) -> APIRouter:
    """All paths of this resource. An id may hold blanks and slashes."""
    router = APIRouter(tags=["networks"])

    @router.get("/networks")
    @router.get("/networks/", include_in_schema=False)
    def list_networks(request: Request, filters: str = "") -> Response:
        """List networks."""
        version = asked_version(request)
        wanted = Filters.parse(filters, _LIST_KEYS)
        found = matching(core, core.networks.all(), wanted)
        documents = (core.inspector.network(item, containers=False) for item in found)
        return Json([shape.network(item, version, listed=True) for item in documents])

    @router.post("/networks/create", status_code=201)
    def create_network(request: Request, body: NetworkCreateBody | None = None) -> Response:
        """Create a network."""
        ipv4_can_be_off = asked_version(request) >= _ENABLE_IPV4
        wanted = network_request(body or NetworkCreateBody(), ipv4_can_be_off=ipv4_can_be_off)
        network = core.networks.create(wanted)
        return Json({"Id": network.id, "Warning": ""}, 201)

    @router.post("/networks/prune")
    def prune_networks(filters: str = "") -> Response:
        """Delete the networks that nobody uses."""
        deleted = core.networks.prune(prunable(Filters.parse(filters, _PRUNE_KEYS)))
        return Json({"NetworksDeleted": [network.name for network in deleted] or None})

    @router.post("/networks/{reference:path}/connect")
    def connect(request: Request, reference: str, body: ConnectBody | None = None) -> Response:
        """Connect a container to a network."""
        body = body or ConnectBody()
        mac_counts = asked_version(request) >= _MAC_ON_CONNECT
        wanted = endpoint_request(body.endpoint, mac_counts=mac_counts)
        core.connections.connect(reference, _container(body.container), wanted)
        return Response()

    @router.post("/networks/{reference:path}/disconnect")
    def disconnect(reference: str, body: DisconnectBody | None = None) -> Response:
        """Disconnect a container from a network."""
        body = body or DisconnectBody()
        core.connections.disconnect(reference, _container(body.container))
        return Response()

    @router.get("/networks/{reference:path}")
    def inspect_network(request: Request, reference: str, scope: str = "") -> Response:
        """Inspect a network."""
        network = core.networks.find(reference)
        if scope and scope != network.scope:
            raise NotFound(f"network {reference} not found")
        document = core.inspector.network(network)
        return Json(shape.network(document, asked_version(request), listed=False))

    @router.delete("/networks/{reference:path}", status_code=204)
    def delete_network(reference: str) -> Response:
        """Remove a network."""
        core.networks.delete(reference)
        return Response(status_code=204)

    return router


def matching(core: Core, networks: list[Network], wanted: Filters) -> list[Network]:
    """The networks that a list's filters leave.

    :raises InvalidParameter: ``dangling`` has a value that is no boolean.
    :raises CNMError: an unknown ``type``.
    """
    dangling = wanted.boolean("dangling")
    for kind in wanted.get("type"):
        if kind not in {"builtin", "custom"}:
            raise CNMError(f"invalid filter: 'type'='{kind}'")  # Docker's status is 500 here

    def left(network: Network) -> bool:
        return (
            wanted.pattern("name", network.name)
            and wanted.pattern("id", network.id)
            and wanted.exact("driver", network.driver)
            and wanted.exact("scope", network.scope)
            and wanted.exact("type", "builtin" if network.predefined else "custom")
            and wanted.labels("label", network.labels)
            and (dangling is None or dangling == _is_dangling(core, network))
        )

    return [network for network in networks if left(network)]


def prunable(wanted: Filters) -> Callable[[Network], bool]:
    """Which networks a prune's filters give up; the core spares those in use by itself.

    :raises InvalidParameter: ``until`` is no time, or there are several.
    """
    limits = wanted.get("until")
    if len(limits) > 1:
        raise InvalidParameter("more than one until filter specified")
    now = time.time_ns()
    until_ns = times.parse(limits[0], now) if limits else now

    def given_up(network: Network) -> bool:
        excluded = "label!" in wanted and wanted.labels("label!", network.labels)
        old_enough = network.created_ns <= until_ns
        return old_enough and wanted.labels("label", network.labels) and not excluded

    return given_up


def _is_dangling(core: Core, network: Network) -> bool:
    return not network.predefined and not core.networks.in_use(network.id)


def _container(reference: str) -> str:
    if not reference:
        raise InvalidParameter('invalid name or ID supplied: ""')
    return reference
