"""``/cnm/v1/attachments``: what the CNI plugin asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from cnm import labels
from cnm.core.attachments import Attachment, AttachmentKey, AttachmentRequest
from cnm.core.facade import Core
from cnm.core.resolvconf import RESOLVER
from cnm.engine import ports
from cnm.engine.addressing import endpoint_request, network_request, unusable
from cnm.engine.answers import Json
from cnm.engine.createbody import PortBody
from cnm.engine.ours import PREFIX
from cnm.engine.wire import EndpointBody, NetworkCreateBody, Wire
from cnm.errors import InvalidParameter


class KeyBody(Wire):
    """What a runtime knows an attachment by."""

    network: str = Field(default="", alias="Network")
    container: str = Field(default="", alias="Container")
    interface: str = Field(default="", alias="Interface")

    def key(self) -> AttachmentKey:
        """:raises InvalidParameter: a part of it is missing or cannot be a name."""
        for what, text in (
            ("network", self.network),
            ("container", self.container),
            ("interface", self.interface),
        ):
            if not text or unusable(text):
                raise InvalidParameter(f'invalid {what} of an attachment: "{ascii(text)[1:-1]}"')
        return AttachmentKey(self.network, self.container, self.interface)


class AddBody(KeyBody):
    """``POST /cnm/v1/attachments``. ``Existing``: the network is not made if it is missing.

    ``Mtu`` is of a network that is made, 0 the default; ``NameServers`` are asked for what is
    no name of ours.
    """

    netns: str = Field(default="", alias="Netns")
    wanted: NetworkCreateBody = Field(default=NetworkCreateBody(), alias="Create")
    existing: bool = Field(default=False, alias="Existing")
    endpoint: EndpointBody = Field(default=EndpointBody(), alias="EndpointConfig")
    mtu: int = Field(default=0, alias="Mtu")
    name_servers: list[str] = Field(default=[], alias="NameServers")
    port_bindings: dict[str, list[PortBody] | None] = Field(default={}, alias="PortBindings")


class CollectBody(Wire):
    """``POST /cnm/v1/attachments/collect``: all of a network's but the valid ones go."""

    network: str = Field(default="", alias="Network")
    valid: list[KeyBody] = Field(default=[], alias="Valid")


def routes(core: Core) -> APIRouter:
    """All paths of this kind."""
    router = APIRouter(prefix=f"{PREFIX}/attachments", tags=["cnm"])

    @router.post("", status_code=201)
    def add(body: AddBody | None = None) -> Response:
        """Attach a network namespace to a network."""
        body = body or AddBody()
        if not body.netns.startswith("/") or unusable(body.netns):
            raise InvalidParameter(f"invalid netns {ascii(body.netns)[1:-1]}: not an absolute path")
        return Json(_document(core.attachments.add(_request(body))), 201)

    @router.post("/find")
    def find(body: KeyBody | None = None) -> Response:
        """One that is there."""
        return Json(_document(core.attachments.find((body or KeyBody()).key())))

    @router.post("/remove", status_code=204)
    def remove(body: KeyBody | None = None) -> Response:
        """Undo one; one that is not there is success."""
        core.attachments.remove((body or KeyBody()).key())
        return Response(status_code=204)

    @router.post("/collect")
    def collect(body: CollectBody | None = None) -> Response:
        """Remove what a runtime knows no more."""
        body = body or CollectBody()
        valid = {(item.container, item.interface) for item in body.valid}
        gone = core.attachments.collect(body.network, valid)
        return Json(
            {"Removed": [{"Container": k.container, "Interface": k.interface} for k in gone]}
        )

    return router


def _request(body: AddBody) -> AttachmentRequest:
    network = network_request(body.wanted, ipv4_can_be_off=True)
    if body.mtu:
        network = replace(network, options={**network.options, labels.MTU: str(body.mtu)})
    endpoint = endpoint_request(body.endpoint, mac_counts=True)
    if body.name_servers:
        servers = {labels.ENDPOINT_DNS_SERVERS: ",".join(body.name_servers)}
        endpoint = replace(endpoint, driver_opts={**endpoint.driver_opts, **servers})
    bindings = tuple(ports.bindings(body.port_bindings))
    return AttachmentRequest(body.key(), body.netns, network, body.existing, endpoint, bindings)


def _document(made: Attachment) -> dict[str, Any]:
    interface, join = made.endpoint.interface, made.endpoint.join
    pairs = (
        (interface.address, join.gateway if join else None),
        (interface.address_ipv6, join.gateway_ipv6 if join else None),
    )
    return {
        "Network": made.network.name,
        "Interface": made.endpoint.interface_name,
        "Mac": interface.mac or "",
        "Addresses": [
            {"Address": str(address), "Gateway": str(gateway or "")}
            for address, gateway in pairs
            if address is not None
        ],
        "DefaultRoutes": [
            str(route.gateway)
            for route in made.default_routes
            if route is not None and route.interface_name == made.endpoint.interface_name
        ],
        "Routes": [
            {"Destination": str(route.destination), "Gateway": str(route.next_hop or "")}
            for route in (join.static_routes if join else ())
        ],
        "Nameservers": [RESOLVER] if made.resolves else [],
    }
