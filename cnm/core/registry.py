"""Network and IPAM drivers by name; entry points are how they get here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol

from cnm import driverapi, ipamapi
from cnm.driverapi import DriverContext, NetworkDriver
from cnm.errors import CNMError, InvalidParameter, NotFound
from cnm.ipamapi import IpamContext, IpamDriver

_LATER = ("overlay",)  # Docker has them built in; not built here yet


class Plugins(Protocol):
    """Drivers that run in processes of others; ``None``: none can have that name."""

    def driver(self, name: str) -> NetworkDriver | None: ...

    def ipam(self, name: str) -> IpamDriver | None: ...


class Registry:
    """Read-only once built. Names that are not registered are those of others' plugins."""

    def __init__(
        self,
        drivers: Mapping[str, NetworkDriver],
        ipam_drivers: Mapping[str, IpamDriver],
        plugins: Plugins | None = None,
    ) -> None:
        self._drivers = dict(drivers)
        self._ipam_drivers = dict(ipam_drivers)
        self._plugins = plugins

    @classmethod
    def load(
        cls, context: DriverContext, ipam_context: IpamContext, plugins: Plugins | None = None
    ) -> Registry:
        """All drivers that installed distributions register.

        :raises CNMError: one of them cannot be loaded or keeps no contract (named).
        """
        drivers: dict[str, NetworkDriver] = {}
        for entry in entry_points(group=driverapi.ENTRY_POINT_GROUP):
            driver = _load(entry.name, entry.load, context)
            if not isinstance(driver, NetworkDriver):
                raise CNMError(f"driver {entry.name}: {entry.value} makes no NetworkDriver")
            drivers[entry.name] = driver
        ipam_drivers: dict[str, IpamDriver] = {}
        for entry in entry_points(group=ipamapi.ENTRY_POINT_GROUP):
            ipam = _load(entry.name, entry.load, ipam_context)
            if not isinstance(ipam, IpamDriver):
                raise CNMError(f"IPAM driver {entry.name}: {entry.value} makes no IpamDriver")
            ipam_drivers[entry.name] = ipam
        return cls(drivers, ipam_drivers, plugins)

    def driver(self, name: str) -> NetworkDriver:
        """One of ours, or of a plugin: whether that is there shows when it is asked.

        :raises NotFound: with Docker's text.
        """
        if name in self._drivers:
            return self._drivers[name]
        if name in _LATER:
            raise NotFound(f'plugin "{name}" not found: this driver is not supported yet')
        found = self._plugins.driver(name) if self._plugins is not None else None
        if found is None:
            raise NotFound(f'plugin "{name}" not found')
        return found

    def ipam(self, name: str) -> IpamDriver:
        """In the same way.

        :raises InvalidParameter: with Docker's text.
        """
        if name in self._ipam_drivers:
            return self._ipam_drivers[name]
        found = self._plugins.ipam(name) if self._plugins is not None else None
        if found is None:
            raise InvalidParameter(
                f'could not find plugin {name} in v2 registry: plugin "{name}" not found'
            )
        return found

    def drivers(self) -> Iterable[tuple[str, NetworkDriver]]:
        """All network drivers, by name."""
        return sorted(self._drivers.items())

    def ipam_drivers(self) -> Iterable[tuple[str, IpamDriver]]:
        """All IPAM drivers, by name."""
        return sorted(self._ipam_drivers.items())


def _load(name: str, load: Callable[[], Any], context: object) -> object:
    try:
        return load()(context)
    except CNMError:
        raise
    except Exception as error:
        raise CNMError(f"driver {name} cannot be loaded: {error}") from error
