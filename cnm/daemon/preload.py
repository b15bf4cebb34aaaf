"""All that a daemon runs with, imported in advance: by who forks daemons instead of starting each.

Three quarters of a start are imports. What cannot be imported is left out: the daemon itself
tells then what is wrong. No threads are begun and nothing is opened, or a fork would not be one.
"""

from __future__ import annotations

import contextlib
import gc
from importlib import import_module
from importlib.metadata import entry_points

from cnm import driverapi, ipamapi

_MODULES = (
    *("cnm.daemon.run", "cnm.daemon.wiring", "cnm.daemon.server"),
    *("cnm.engine.app", "cnm.engine.info", "cnm.core.attachments"),
    # What a first start imports late: FastAPI looks for models of pydantic's first version,
    # uvicorn for a loop, and a host name is encoded.
    *("pydantic.v1", "uvicorn.loops.asyncio", "uvicorn.lifespan.off", "encodings.idna"),
)


def preload() -> None:
    """Import them, and keep their pages shared by those who are forked."""
    for name in _MODULES:
        with contextlib.suppress(ImportError):
            import_module(name)
    for group in (driverapi.ENTRY_POINT_GROUP, ipamapi.ENTRY_POINT_GROUP):
        for entry in entry_points(group=group):
            with contextlib.suppress(Exception):
                entry.load()
    gc.collect()
    gc.freeze()
