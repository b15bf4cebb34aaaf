"""``/_ping``, ``/version``, ``/info``, ``/system/df``, and what this daemon has none of."""

from __future__ import annotations

import collections
from collections.abc import Callable

from fastapi import APIRouter, Request
from starlette.responses import Response

from cnm.core.facade import Core
from cnm.engine.answers import NOT_YET, Json, failure
from cnm.engine.info import DaemonInfo, info, version
from cnm.errors import NotFound, Unavailable

_PING_HEADERS = {
    "Builder-Version": "2",
    "Swarm": "inactive",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}
_NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect'
    " this node to swarm and try again."
)
_ANY = ["GET", "HEAD", "POST", "PUT", "DELETE"]
_CLUSTER = ("swarm", "nodes", "services", "tasks", "secrets", "configs")
_NOT_BUILT = ("containers", "exec", "images", "build", "volumes", "commit", "session", "auth")


def routes(core: Core, daemon: Callable[[], DaemonInfo]) -> APIRouter:
    """The daemon's own documents. ``daemon`` is asked anew: a reload may change it."""
    router = APIRouter(tags=["system"])

    # in the event loop, not in a thread: every docker command begins with a ping
    @router.get("/_ping")
    @router.head("/_ping", include_in_schema=False)
    async def ping(request: Request) -> Response:
        """Answer at once."""
        body = "OK" if request.method == "GET" else ""
        return Response(body, headers=_PING_HEADERS, media_type="text/plain")

    @router.get("/version")
    async def show_version() -> Response:
        """Versions of the daemon and its API."""
        return Json(version())

    @router.get("/info")
    def show_info() -> Response:
        """What this daemon and its host are."""
        states = collections.Counter(str(record.status) for record in core.containers.everything())
        return Json(info(daemon(), states, len(core.images.summaries())))

    @router.get("/system/df")
    async def disk_use() -> Response:
        """Disk use: there is nothing here that takes any."""
        empty = ("Images", "Containers", "Volumes", "BuildCache")
        return Json({"LayersSize": 0, **{key: [] for key in empty}})

    return router


def absent() -> APIRouter:
    """What Docker has and this daemon has not: empty lists, 404, 503 or 501, never a guess.

    ``docker inspect NAME`` walks through containers, images, networks, volumes and
    plugins until one of them does not answer 404. Comes last: it catches whole trees.
    """
    router = APIRouter(include_in_schema=False)

    @router.get("/volumes")
    async def volumes() -> Response:
        return Json({"Volumes": [], "Warnings": None})

    @router.get("/volumes/{name}")
    async def volume(name: str) -> Response:
        raise NotFound(f"get {name}: no such volume")

    @router.get("/plugins")
    async def plugins() -> Response:
        return Json([])

    @router.get("/plugins/{name:path}/json")
    async def plugin(name: str) -> Response:
        raise NotFound(f'plugin "{name}" not found')

    @router.post("/swarm/leave")
    async def swarm_leave() -> Response:
        raise Unavailable("This node is not part of a swarm")

    @router.post("/swarm/init")
    @router.post("/swarm/join")
    async def swarm_begin() -> Response:
        return failure(501, NOT_YET)

    async def no_manager() -> Response:
        raise Unavailable(_NO_MANAGER)

    async def not_built() -> Response:
        return failure(501, NOT_YET)

    for roots, answer in ((_CLUSTER, no_manager), (_NOT_BUILT, not_built)):
        for root in roots:
            router.add_api_route(f"/{root}", answer, methods=_ANY)
            router.add_api_route(f"/{root}/{{rest:path}}", answer, methods=_ANY)
    return router
