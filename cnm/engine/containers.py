"""``/containers``: list and inspect, of the runtime's containers and of adopted namespaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from cnm.containerapi import ContainerRecord, ContainerStatus
from cnm.core import portdocs
from cnm.core.facade import Core
from cnm.engine import ports, shape
from cnm.engine.answers import Json
from cnm.engine.filters import Filters, truth
from cnm.engine.frame import asked_version
from cnm.errors import InvalidParameter
from cnm.types import SandboxRecord, SandboxStatus

_KEYS = {
    *("ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label"),
    *("name", "network", "publish", "since", "status", "volume"),
}
_STATES = {"created", "dead", "exited", "paused", "removing", "restarting", "running"}
_HEALTH = {"none", "starting", "healthy", "unhealthy"}


def routes(core: Core) -> APIRouter:
    """All paths of this resource."""
    router = APIRouter(tags=["containers"])

    @router.get("/containers/json")
    def list_containers(
        request: Request, filters: str = "", all: str = "", limit: str = ""
    ) -> Response:
        """List containers, newest first."""
        version = asked_version(request)
        wanted = Filters.parse(filters, _KEYS)
        _check(wanted)
        many = _limit(limit)
        every = truth(all) or many is not None or "status" in wanted
        records = sorted(core.containers.everything(), key=lambda record: -record.created_ns)
        records = [record for record in records if _in_time(core, record, wanted)]
        records = [record for record in records if _has_ports(record, wanted)]
        shown = [record for record in records if every or _runs(record)]
        documents = (_summary(core, record) for record in shown if _exited(record, wanted))
        found = [document for document in documents if _left(document, wanted)]
        return Json([shape.container(document, version) for document in found[:many]])

    @router.get("/containers/{reference}/json")
    def inspect_container(request: Request, reference: str) -> Response:
        """Inspect a container."""
        record = core.containers.find_any(reference)
        if isinstance(record, ContainerRecord):
            document = core.documents.container(record)
        else:
            document = core.inspector.container(record)
        return Json(shape.container(document, asked_version(request)))

    return router


def _runs(record: ContainerRecord | SandboxRecord) -> bool:
    if isinstance(record, ContainerRecord):
        return record.alive
    return record.status is SandboxStatus.RUNNING


def _summary(core: Core, record: ContainerRecord | SandboxRecord) -> dict[str, Any]:
    if isinstance(record, ContainerRecord):
        return core.documents.summary(record)
    return core.inspector.container_summary(record)


def _exited(record: ContainerRecord | SandboxRecord, wanted: Filters) -> bool:
    """``exited``: only those that ended so."""
    if "exited" not in wanted:
        return True
    ended = isinstance(record, ContainerRecord) and record.status is ContainerStatus.EXITED
    return ended and wanted.exact("exited", str(getattr(record, "exit_code", "")))


def _check(wanted: Filters) -> None:
    """:raises InvalidParameter: a value that no container can have."""
    for key, allowed in (("status", _STATES), ("health", _HEALTH)):
        for value in wanted.get(key):
            if value not in allowed:
                raise InvalidParameter(f"invalid filter '{key}={value}'")
    for value in wanted.get("exited"):
        if not value.lstrip("-").isdigit():
            raise InvalidParameter(f"invalid filter 'exited={value}'")
    for key in ("expose", "publish"):
        ports.wanted_ports(key, wanted.get(key))
    wanted.boolean("is-task")


def _has_ports(record: ContainerRecord | SandboxRecord, wanted: Filters) -> bool:
    """``expose`` and ``publish``: ports of the container, by what was asked for, as Docker's."""
    if isinstance(record, ContainerRecord):
        exposed = set(record.definition.exposed_ports)
        published = set(record.definition.host_config.get("PortBindings") or ())
    else:
        published = exposed = {portdocs.key(port) for port in record.publish}
    return all(
        key not in wanted or bool(there & ports.wanted_ports(key, wanted.get(key)))
        for key, there in (("expose", exposed), ("publish", published))
    )


def _limit(text: str) -> int | None:
    """Docker's ``limit``: the newest so many, whatever their state. 0 and less mean none."""
    if not text:
        return None
    try:
        return int(text) if int(text) > 0 else None
    except ValueError:
        raise InvalidParameter(f'invalid limit "{text}": must be a number') from None


def _in_time(core: Core, record: ContainerRecord | SandboxRecord, wanted: Filters) -> bool:
    """``before`` and ``since`` name containers; the newest so named counts."""
    since = [core.containers.find_any(name).created_ns for name in wanted.get("since")]
    before = [core.containers.find_any(name).created_ns for name in wanted.get("before")]
    if since and record.created_ns <= max(since):
        return False
    return not before or record.created_ns < max(before)


def _left(document: Mapping[str, Any], wanted: Filters) -> bool:
    """Whether a summary passes the filters.

    There are no health checks and no tasks of a cluster: filters for those leave none.
    """
    names = [name for given in document["Names"] for name in (given, given.removeprefix("/"))]
    networks = document["NetworkSettings"]["Networks"]
    ids = [str(item["NetworkID"]) for item in networks.values()]
    return (
        wanted.pattern("name", *names)
        and wanted.pattern("id", document["Id"])
        and wanted.labels("label", document["Labels"])
        and wanted.exact("status", document["State"])
        and wanted.exact("network", *networks, *ids)
        and wanted.exact("ancestor", *_ancestors(document))
        and wanted.exact("volume", *_volumes(document))
        and wanted.exact("health", "none")
        and wanted.boolean("is-task") is not True
    )


def _ancestors(document: Mapping[str, Any]) -> list[str]:
    name, image_id = str(document["Image"]), str(document["ImageID"])
    digits = image_id.removeprefix("sha256:")
    return [name, name.removesuffix(":latest"), f"{name}:latest", image_id, digits, digits[:12]]


def _volumes(document: Mapping[str, Any]) -> list[str]:
    mounts = document["Mounts"]
    return [str(mount[key]) for mount in mounts for key in ("Source", "Destination")]
