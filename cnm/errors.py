"""The error tree.

Every error that leaves a module of ours is one of these, raised ``from`` its
cause. Callers match on the type (and ``errno``), never on text. The text is one
line: what was being done, to what, what is wrong and, where it helps, what to do.

::

    CNMError                      500
    ├── InvalidParameter          400  the request itself is wrong
    │   └── StartFailed           400  a command cannot be run; carries ``exit_code``
    ├── Forbidden                 403  well formed, but the rules do not allow it
    │   └── PoolOverlap           403  the pool overlaps another; carries ``pool``
    ├── NotFound                  404
    ├── Conflict                  409  it clashes with what exists
    │   └── PortTaken             409  a host port is; carries ``endpoint_id``, if it is of ours
    ├── NotImplementedByDriver    501
    ├── NotSupported              501  nobody has built it yet
    ├── Unavailable               503  try again later, or something else must run first
    │   └── SandboxGone           503  the namespace of a sandbox is no more
    ├── StoreError                500  the database is damaged, newer, locked or full
    └── KernelError               500  the kernel refused; carries ``errno``
    TeardownError                 500  an ExceptionGroup: all that failed in a tear-down
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network


class CNMError(Exception):
    """Any failure that this system reports. ``http_status`` is the Engine API's."""

    http_status = 500


class InvalidParameter(CNMError):
    """The request is malformed or contradicts itself."""

    http_status = 400


class StartFailed(InvalidParameter):
    """A container or exec did not come up. ``exit_code``: 127 not found, 126 not runnable, 128."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Forbidden(CNMError):
    """The request is understood and not allowed."""

    http_status = 403


class PoolOverlap(Forbidden):
    """A wanted pool overlaps ``pool``, which is held in the same address space."""

    def __init__(self, message: str, pool: IPv4Network | IPv6Network) -> None:
        super().__init__(message)
        self.pool = pool


class NotFound(CNMError):
    """No such network, container, driver, …"""

    http_status = 404


class Conflict(CNMError):
    """The name or object exists already."""

    http_status = 409


class PortTaken(Conflict):
    """A host port is held by another program, or by the endpoint ``endpoint_id``."""

    def __init__(self, message: str, endpoint_id: str = "") -> None:
        super().__init__(message)
        self.endpoint_id = endpoint_id


class NotImplementedByDriver(CNMError):
    """The driver has no such ability."""

    http_status = 501


class NotSupported(CNMError):
    """What Docker has and this system has not yet; the text names it."""

    http_status = 501


class Unavailable(CNMError):
    """Cannot be done now."""

    http_status = 503


class SandboxGone(Unavailable):
    """The network namespace no longer exists, or another one has its path."""


class StoreError(CNMError):
    """The database cannot be used; nothing was changed."""


class KernelError(CNMError):
    """The kernel refused. ``errno`` is the number that it gave."""

    def __init__(self, errno: int, what: str, detail: str = "") -> None:
        reason = detail or os.strerror(errno)
        super().__init__(f"{what}: {reason}")
        self.errno = errno


class TeardownError(ExceptionGroup[Exception]):
    """Everything that failed while taking something down; the rest was done."""

    http_status = 500

    def __str__(self) -> str:
        return f"{self.message}: " + "; ".join(str(error) for error in self.exceptions)

    def derive(self, excs: Sequence[Exception], /) -> TeardownError:  # type: ignore[override]
        return TeardownError(self.message, excs)
