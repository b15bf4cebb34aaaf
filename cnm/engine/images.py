"""``/images``: what can be run."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from cnm.core.facade import Core
from cnm.engine.answers import Json, encode
from cnm.engine.filters import Filters, truth
from cnm.engine.streaming import BodySource
from cnm.errors import InvalidParameter, NotFound, NotSupported
from cnm.imageapi import ImageDocuments, ImageSummary, missing_image

_KEYS = {"before", "dangling", "label", "reference", "since", "until"}


def routes(core: Core) -> APIRouter:
    """All paths of this resource. A name may hold slashes."""
    router = APIRouter(tags=["images"])
    stock = core.images

    @router.get("/images/json")
    def list_images(filters: str = "") -> Response:
        """List images, newest first."""
        wanted = Filters.parse(filters, _KEYS)
        rows = [_row(item, users) for item, users in stock.summaries() if _left(item, wanted)]
        return Json(rows)

    @router.post("/images/create")
    async def import_image(request: Request) -> Response:
        """Make an image of a root file system's tar (``fromSrc=-``). Nothing is pulled."""
        query = request.query_params
        if "fromSrc" not in query:
            name = query.get("fromImage", "").removeprefix("docker.io/").removeprefix("library/")
            raise NotFound(missing_image(_named(name, query.get("tag", ""))))
        if query["fromSrc"] != "-":
            raise NotSupported("importing from a URL is not supported yet: give a file")
        name = _named(query.get("repo", ""), query.get("tag", ""))
        source, changes = BodySource(request), query.getlist("changes")
        image_id = await run_in_threadpool(
            stock.import_tar, source, name, changes, query.get("message", "")
        )
        return Json({"status": image_id})

    @router.post("/images/load")
    async def load_images(request: Request) -> Response:
        """Take the images of a ``docker save`` or OCI archive."""
        loaded = await run_in_threadpool(stock.load, BodySource(request))
        lines = []
        for item in loaded:
            names = [f"Loaded image: {name}" for name in item.references]
            lines += names or [f"Loaded image ID: {item.id}"]
        body = b"".join(encode({"stream": f"{line}\n"}) for line in lines)
        return Response(body, media_type="application/json")

    @router.get("/images/{name:path}/json")
    def inspect_image(name: str) -> Response:
        """Inspect an image."""
        return Json(_documents(core).inspect(name))

    @router.get("/images/{name:path}/history")
    def image_history(name: str) -> Response:
        """How an image was made."""
        return Json(_documents(core).history(name))

    @router.post("/images/{name:path}/tag", status_code=201)
    def tag_image(name: str, repo: str = "", tag: str = "") -> Response:
        """Give an image a further name."""
        if not repo:
            raise InvalidParameter("invalid reference format")
        stock.tag(name, _named(repo, tag))
        return Response(status_code=201)

    @router.delete("/images/{name:path}")
    def remove_image(name: str, force: str = "") -> Response:
        """Take a name away, and with the last one the image."""
        removal = stock.remove(name, force=truth(force))
        rows = [{"Untagged": item} for item in removal.untagged]
        return Json([*rows, *({"Deleted": item} for item in removal.deleted)])

    return router


def _documents(core: Core) -> ImageDocuments:
    store = core.images.store
    if not isinstance(store, ImageDocuments):
        raise NotSupported("these images have no documents")
    return store


def _named(repository: str, tag: str) -> str:
    if not repository or not tag:
        return repository
    return f"{repository}@{tag}" if ":" in tag else f"{repository}:{tag}"


def _row(item: ImageSummary, users: int) -> dict[str, Any]:
    return {
        "Id": item.id,
        "ParentId": "",
        "RepoTags": list(item.references),
        "RepoDigests": [],
        "Created": item.created_ns // 1_000_000_000,
        "Size": item.size,
        "SharedSize": -1,
        "Containers": users,
        "Labels": dict(item.labels) or None,
    }


def _left(item: ImageSummary, wanted: Filters) -> bool:
    short = (name.rpartition(":")[0] for name in item.references)
    dangling = wanted.boolean("dangling")
    return (
        wanted.exact("reference", *item.references, *short)
        and wanted.labels("label", item.labels)
        and (dangling is None or dangling == (not item.references))
    )
