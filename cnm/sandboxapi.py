"""What the core asks of a container's network stack."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TypeVar

from cnm.idmap import IdMap
from cnm.types import (
    EndpointInterface,
    IPAddress,
    IPInterface,
    JoinInfo,
    NamespaceIdentity,
    Repair,
    SandboxKey,
    SandboxRecord,
    StaticRoute,
)


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """Where a sandbox sends what no other route takes. Without a gateway: out of the device."""

    interface_name: str
    gateway: IPAddress | None


@dataclass(frozen=True, slots=True)
class PlacedInterface:
    """An interface as it should be inside a sandbox."""

    join: JoinInfo
    interface: EndpointInterface


T = TypeVar("T")


class Inside(Protocol):
    """A way into one network namespace."""

    def run(self, fn: Callable[[], T]) -> T:
        """Call ``fn`` on a thread that is in it, and hand back what it returns or raises."""


class Sandbox(Inside, Protocol):
    """One network namespace, opened for one operation; a context manager that closes it.

    Only what we made is ever touched: links that we placed, routes with our protocol
    number. A foreign default route in an adopted namespace stays.
    """

    @property
    def key(self) -> SandboxKey: ...

    def has_interface(self, name: str) -> bool:
        """Whether a name is in use, a foreign one too."""

    def add_interface(self, join: JoinInfo, interface: EndpointInterface) -> str:
        """Configure (move first, if not placed) an interface and announce it; its final name.

        IPv6 is switched off and ``accept_ra`` set to 0 before the link comes up.
        """

    def remove_interface(self, name: str) -> None:
        """For links that were moved in: take it out again. Already gone is success."""

    def remove_address(self, name: str, address: IPInterface) -> None:
        """Take an address off an interface of ours. One that is not there is success."""

    def remove_routes(self, name: str, routes: Collection[StaticRoute]) -> None:
        """Take static routes off an interface of ours. What is not there is success."""

    def set_default_gateway(
        self, v4: DefaultRoute | None, v6: DefaultRoute | None, *, v6_too: bool = True
    ) -> None:
        """Make these the default routes of ours; ``None`` removes ours of that family.

        ``v6_too``: without, IPv6 is not looked at: it has none, and is to have none.
        """

    def repair(
        self,
        interfaces: Sequence[PlacedInterface],
        v4: DefaultRoute | None,
        v6: DefaultRoute | None,
    ) -> Sequence[Repair]:
        """Bring addresses, routes and link states to what they should be, changing only the rest.

        Interfaces that are missing altogether are the driver's to make again, before this.
        """

    def destroy(self) -> None:
        """Give an adopted namespace back as it was (loopback), remove one of our own."""

    def __enter__(self) -> Sandbox: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class SandboxProvider(Protocol):
    """Finds and opens sandboxes."""

    def identify(self, key: SandboxKey) -> tuple[NamespaceIdentity, bool]:
        """Identity of the namespace at a path, and whether its loopback is up.

        :raises InvalidParameter: the path is no network namespace.
        :raises NotFound: nothing is there.
        """

    def host_identity(self) -> str:
        """Changes when the host (or lab host) was booted anew: boot id and namespace cookie."""

    def open(self, record: SandboxRecord, *, joining: bool = False) -> Sandbox:
        """``joining``: an interface will be added; what that needs is opened at once.

        :raises SandboxGone: the namespace is gone, or another one is at its path.
        """

    def create(self, key: SandboxKey, ids: IdMap | None = None) -> NamespaceIdentity:
        """Make a namespace at ``key``: loopback up, sysctls as Docker sets them.

        With ``ids`` it belongs to a new user namespace, whose root may then rule it. What is left
        there of a former one goes. :raises KernelError: nothing is left behind.
        """

    def keep(self, record: SandboxRecord, pid: int) -> bool:
        """Have a namespace of ours at its key again, by a process in it; False: it is there.

        :raises SandboxGone: the process is in another namespace, or gone.
        """

    def remove(self, key: SandboxKey) -> None:
        """Undo :meth:`create`, whatever is at ``key``. Gone is success."""

    def created(self, folder: str) -> Collection[SandboxKey]:
        """What :meth:`create` has made in a folder, and was not removed."""
