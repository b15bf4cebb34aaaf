"""``/containers``: create, start, stop, kill, restart, rename, remove, prune, top."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from cnm.containerapi import ContainerRecord
from cnm.core.facade import Core
from cnm.engine import definition, processes
from cnm.engine.answers import Json
from cnm.engine.createbody import ContainerCreateBody
from cnm.engine.filters import Filters, truth
from cnm.engine.frame import asked_version
from cnm.errors import CNMError, Conflict, InvalidParameter, NotFound
from cnm.types import SandboxRecord

_PRUNE_KEYS = {"label", "label!", "until"}


def routes(core: Core) -> APIRouter:
    """All paths of this resource."""
    router = APIRouter(tags=["containers"])
    containers = core.containers

    @router.post("/containers/create", status_code=201)
    def create_container(
        request: Request, body: ContainerCreateBody | None = None, name: str = ""
    ) -> Response:
        """Create a container."""
        body = body or ContainerCreateBody()
        wish = definition.definition(body, asked_version(request))
        record = containers.create(name, wish)
        return Json({"Id": record.id, "Warnings": definition.warnings(body)}, 201)

    @router.post("/containers/{reference}/start", status_code=204)
    def start_container(reference: str) -> Response:
        """Start a container."""
        return _done(containers.start(reference))

    @router.post("/containers/{reference}/stop", status_code=204)
    def stop_container(reference: str, t: str = "", signal: str = "") -> Response:
        """Stop a container: ask it to end, make it end after ``t`` seconds."""
        return _done(containers.stop(reference, _seconds(t), signal))

    @router.post("/containers/{reference}/restart", status_code=204)
    def restart_container(reference: str, t: str = "", signal: str = "") -> Response:
        """Stop and start a container."""
        containers.restart(reference, _seconds(t), signal)
        return _done(True)

    @router.post("/containers/{reference}/kill", status_code=204)
    def kill_container(reference: str, signal: str = "") -> Response:
        """Send a signal, SIGKILL if none is named."""
        try:
            containers.kill(reference, signal)
        except (InvalidParameter, NotFound, Conflict) as error:
            raise type(error)(f"cannot kill container: {reference}: {error}") from error
        return _done(True)

    @router.post("/containers/{reference}/rename", status_code=204)
    def rename_container(reference: str, name: str = "") -> Response:
        """Rename a container."""
        containers.rename(reference, name)
        return _done(True)

    @router.delete("/containers/{reference}", status_code=204)
    def remove_container(reference: str, force: str = "") -> Response:
        """Remove a container."""
        found = containers.find_any(reference)
        if isinstance(found, SandboxRecord):
            raise Conflict(
                f'container "{found.name}" is an adopted network namespace: give it back with '
                f"`cnm release {found.name}`"
            )
        containers.remove(reference, force=truth(force))
        return _done(True)

    @router.post("/containers/prune")
    def prune_containers(filters: str = "") -> Response:
        """Remove the containers that do not run."""
        wanted = Filters.parse(filters, _PRUNE_KEYS)
        deleted = [item.id for item in containers.all() if _given_up(core, item, wanted)]
        return Json({"ContainersDeleted": deleted or None, "SpaceReclaimed": 0})

    @router.get("/containers/{reference}/top")
    def top(reference: str, ps_args: str = "") -> Response:
        """List what runs in a container."""
        _, pids = containers.processes(reference)
        return Json(processes.top(pids, ps_args))

    return router


def _done(changed: bool) -> Response:
    return Response(status_code=204 if changed else 304)


def _seconds(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(int(text))
    except ValueError:
        raise InvalidParameter(f'invalid timeout "{text}": must be a number of seconds') from None


def _given_up(core: Core, record: ContainerRecord, wanted: Filters) -> bool:
    """Remove it if the filters say so; whether it is gone."""
    labels = record.definition.labels
    excluded = "label!" in wanted and wanted.labels("label!", labels)
    if record.alive or excluded or not wanted.labels("label", labels):
        return False
    try:
        core.containers.remove(record.id)
    except (NotFound, Conflict):
        return False  # started, or removed, meanwhile
    except CNMError as error:
        raise CNMError(f"cannot remove container {record.name}: {error}") from error
    return True
