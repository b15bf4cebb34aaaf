"""The application: all resources behind one frame."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fastapi import FastAPI

import cnm
from cnm.core.facade import Core
from cnm.engine import (
    answers,
    attachments,
    containers,
    docs,
    events,
    exec,
    images,
    life,
    names,
    networks,
    ours,
    publishing,
    streams,
    system,
)
from cnm.engine.frame import Frame
from cnm.engine.info import DaemonInfo
from cnm.engine.shortcut import Shortcut
from cnm.engine.workers import Workers

_ABOUT = (
    "The Docker Engine API of networks, containers and images (with and without a /v1.NN prefix),"
    " and under /cnm/v1 what goes beyond it."
)


def build_app(
    core: Core, daemon: Callable[[], DaemonInfo], stopping: threading.Event, workers: Workers
) -> FastAPI:
    """The Engine API over a core.

    ``daemon`` tells what the daemon is; it is asked on every ``/info``. Setting
    ``stopping`` ends what streams. ``workers`` run the verbs.
    """
    app = FastAPI(
        title="cnm",
        version=cnm.__version__,
        description=_ABOUT,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    routers = (
        networks.routes(core),
        system.routes(core, daemon),
        containers.routes(core),
        life.routes(core),
        streams.routes(core, stopping),
        exec.routes(core),
        images.routes(core),
        events.routes(core, stopping),
        ours.routes(core),
        publishing.routes(core),
        attachments.routes(core),
        names.routes(core, stopping),
        docs.routes(app),
        system.absent(),
    )
    app.add_middleware(Shortcut, routers=routers, workers=workers)
    app.add_middleware(Frame)
    answers.install(app)
    for router in routers:
        app.include_router(router)
    return app
