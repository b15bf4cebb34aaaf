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

_ABOUT = (
    "The Docker Engine API of networks, containers and images (with and without a /v1.NN prefix),"
    " and under /cnm/v1 what goes beyond it."
)


def build_app(core: Core, daemon: Callable[[], DaemonInfo], stopping: threading.Event) -> FastAPI:
    """The Engine API over a core.

    ``daemon`` tells what the daemon is; it is asked on every ``/info``. Setting
    ``stopping`` ends what streams.
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
    app.add_middleware(Frame)
    answers.install(app)
    app.include_router(networks.routes(core))
    app.include_router(system.routes(core, daemon))
    app.include_router(containers.routes(core))
    app.include_router(life.routes(core))
    app.include_router(streams.routes(core, stopping))
    app.include_router(exec.routes(core))
    app.include_router(images.routes(core))
    app.include_router(events.routes(core, stopping))
    app.include_router(ours.routes(core))
    app.include_router(publishing.routes(core))
    app.include_router(attachments.routes(core))
    app.include_router(names.routes(core, stopping))
    app.include_router(docs.routes(app))
    app.include_router(system.absent())
    return app
