"""``/cnm/v1``: what is ours beyond Docker's API."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from cnm.core.facade import Core
from cnm.engine.addressing import unusable
from cnm.engine.answers import Json
from cnm.engine.wire import AdoptBody
from cnm.errors import InvalidParameter

PREFIX = "/cnm/v1"
_PATH_MAX = 4095  # bytes: PATH_MAX without its zero
_PID_MAX = 1 << 22  # PID_MAX_LIMIT of the kernel
_SHOWN_MAX = 80  # characters of a wrong path in a message
_WORST_FIRST = ("failed", "warning", "ok")


def routes(core: Core) -> APIRouter:
    """Adopt and release namespaces, look after the host."""
    router = APIRouter(prefix=PREFIX, tags=["cnm"])

    @router.post("/adopt", status_code=201)
    def adopt(body: AdoptBody | None = None) -> Response:
        """Make an existing network namespace a container that networks can be connected to."""
        body = body or AdoptBody()
        _check_namespace(body)
        record = core.sandboxes.adopt(body.name, netns=body.netns, pid=body.pid, labels=body.labels)
        return Json({"Id": record.id, "Name": record.name}, 201)

    @router.post("/containers/{reference}/release")
    def release(reference: str) -> Response:
        """Disconnect an adopted namespace from everything and give it back as it was."""
        record = core.sandboxes.release(reference)
        return Json({"Id": record.id, "Name": record.name})

    @router.get("/doctor")
    def doctor() -> Response:
        """Check kernel features, conflicts and drift (which is repaired)."""
        checks = core.doctor()
        found = {str(check.status) for check in checks}
        worst = next((status for status in _WORST_FIRST if status in found), "ok")
        rows = [
            {"Name": check.name, "Status": str(check.status), "Detail": check.detail}
            for check in checks
        ]
        return Json({"Status": worst, "Checks": rows})

    @router.post("/sweep")
    def sweep() -> Response:
        """Compare store and kernel now, and repair what differs."""
        repairs = core.reconciler.sweep()
        rows = [{"Kind": item.kind, "Name": item.name, "Action": item.action} for item in repairs]
        return Json({"Repairs": rows})

    return router


def _check_namespace(body: AdoptBody) -> None:
    """:raises InvalidParameter: no path, or no process number, can look like that."""
    path = body.netns
    if unusable(path):
        raise InvalidParameter("invalid netns: it has control characters")
    if path and not path.startswith("/"):
        raise InvalidParameter(f"invalid netns {path[:_SHOWN_MAX]}: it must be an absolute path")
    if len(path.encode()) > _PATH_MAX:
        raise InvalidParameter(f"invalid netns: longer than {_PATH_MAX} bytes")
    if not 0 <= body.pid <= _PID_MAX:
        raise InvalidParameter(f"invalid pid: it must be between 1 and {_PID_MAX}")
