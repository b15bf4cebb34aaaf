"""``/containers``: list and inspect. Their life is the runtime's, which is not built yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from cnm.core.facade import Core
from cnm.engine import shape
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
        records = sorted(core.sandboxes.all(), key=lambda record: -record.created_ns)
        records = [record for record in records if _in_time(core, record, wanted)]
        running = [r for r in records if every or r.status is SandboxStatus.RUNNING]
        documents = (core.inspector.container_summary(record) for record in running)
        found = [document for document in documents if _left(document, wanted)]
        return Json([shape.container(document, version) for document in found[:many]])

    @router.get("/containers/{reference}/json")
    def inspect_container(request: Request, reference: str) -> Response:
        """Inspect a container."""
        document = core.inspector.container(core.sandboxes.find(reference))
        return Json(shape.container(document, asked_version(request)))

    return router


def _check(wanted: Filters) -> None:
    """:raises InvalidParameter: a value that no container can have."""
    for key, allowed in (("status", _STATES), ("health", _HEALTH)):
        for value in wanted.get(key):
            if value not in allowed:
                raise InvalidParameter(f"invalid filter '{key}={value}'")
    for value in wanted.get("exited"):
        if not value.lstrip("-").isdigit():
            raise InvalidParameter(f"invalid filter 'exited={value}'")
    wanted.boolean("is-task")


def _limit(text: str) -> int | None:
    """Docker's ``limit``: the newest so many, whatever their state. 0 and less mean none."""
    if not text:
        return None
    try:
        return int(text) if int(text) > 0 else None
    except ValueError:
        raise InvalidParameter(f'invalid limit "{text}": must be a number') from None


def _in_time(core: Core, record: SandboxRecord, wanted: Filters) -> bool:
    """``before`` and ``since`` name containers; the newest so named counts."""
    since = [core.sandboxes.find(name).created_ns for name in wanted.get("since")]
    before = [core.sandboxes.find(name).created_ns for name in wanted.get("before")]
    if since and record.created_ns <= max(since):
        return False
    return not before or record.created_ns < max(before)


def _left(document: Mapping[str, Any], wanted: Filters) -> bool:
    """Whether a summary passes the filters.

    An adopted namespace has no image, volume, health check, port or task of a
    cluster: filters for those leave none.
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
        and wanted.exact("ancestor", document["Image"])
        and wanted.exact("health", "none")
        and wanted.boolean("is-task") is not True
        and not any(key in wanted for key in ("exited", "expose", "publish", "volume"))
    )
