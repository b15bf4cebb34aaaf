"""Ports of containers that exist: published and taken back while they run, and looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from cnm.containerapi import SHARED_PREFIX, ContainerRecord
from cnm.core import portdocs
from cnm.core.events import Events
from cnm.core.locks import Locks
from cnm.core.publishing import Publishing, is_one_of
from cnm.core.registry import Registry
from cnm.core.state import State
from cnm.driverapi import FirewallInsight
from cnm.errors import Conflict, InvalidParameter, NotFound
from cnm.types import (
    EndpointID,
    FirewallEntry,
    NetworkID,
    Phase,
    PortBinding,
    Reach,
    SandboxID,
    SandboxRecord,
    SandboxStatus,
)
from cnm.undo import Undo

Wishes = tuple[PortBinding, ...]
_SHORT_ID = 12


class Ports:
    """``net publish|unpublish`` and ``net firewall``."""

    def __init__(
        self,
        state: State,
        locks: Locks,
        publishing: Publishing,
        registry: Registry,
        events: Events,
    ) -> None:
        self._state = state
        self._locks = locks
        self._publishing = publishing
        self._registry = registry
        self._events = events

    def publish(self, reference: str, more: Sequence[PortBinding]) -> Wishes:
        """Publish more ports of a container, now and at each later start; all as they are now.

        What is published already is success. A container that does not run, or has no default
        route, publishes them when it does.

        :raises NotFound: :raises Conflict: it is being removed.
        :raises InvalidParameter: a port that cannot be published.
        :raises CNMError: a port is taken; nothing has changed.
        """
        if not more:
            raise InvalidParameter("no port specified")

        def added(record: SandboxRecord) -> Wishes:
            self._publishing.check(record, more)
            return tuple(dict.fromkeys((*record.publish, *more)))

        return self._change(reference, added)

    def unpublish(self, reference: str, fewer: Sequence[PortBinding] | None) -> Wishes:
        """Take ports back; ``None``: all. What is left, as it is.

        An address or a port of the host that is not said fits any.

        :raises NotFound: no such container, or one of these is not published.
        """

        def left(record: SandboxRecord) -> Wishes:
            if fewer is None:
                return ()
            wishes, real = _Bindings(record.publish), _Bindings(self.of(record.id))
            gone = {wish for item in fewer for wish in _named(record.name, wishes, real, item)}
            return tuple(wish for wish in record.publish if wish not in gone)

        return self._change(reference, left)

    def of(self, sandbox_id: SandboxID) -> Wishes:
        """A container's ports as they are published now."""
        return portdocs.published(self._state, sandbox_id)

    def _change(self, reference: str, wanted: Callable[[SandboxRecord], Wishes]) -> Wishes:
        sandbox_id = self._find(reference).id
        with self._locks.sandbox(sandbox_id):
            record, container = self._present(sandbox_id)
            wishes = wanted(record)
            with (
                self._locks.networks(self._concerned(record.id)),
                Undo() as undo,
            ):
                moved = {}
                if record.status is SandboxStatus.RUNNING:
                    moved = self._publishing.settle(record, wishes, undo)
                # one write: a daemon killed before it finds all as it was
                asked = [] if container is None else [_asked(container, wishes)]
                self._state.write(put=[replace(record, publish=wishes), *asked, *moved.values()])
        self._events.publish("container", "update", record.id, {"name": record.name})
        return self.of(sandbox_id)

    def _concerned(self, sandbox_id: SandboxID) -> set[NetworkID]:
        return {item.network_id for item in self._state.endpoints_of_sandbox(sandbox_id)}

    def _find(self, reference: str) -> SandboxRecord:
        found = self._state.find_any(reference)
        if isinstance(found, ContainerRecord) and not found.own_stack:
            mode = found.definition.network_mode
            shared = mode.startswith(SHARED_PREFIX)
            whose = f"container {mode.removeprefix(SHARED_PREFIX)[:12]}" if shared else "the host"
            raise InvalidParameter(
                f"container {found.name} has no network of its own: it uses that of {whose}"
            )
        return self._state.find_sandbox(found.id)

    def _present(self, sandbox_id: SandboxID) -> tuple[SandboxRecord, ContainerRecord | None]:
        record, container = self._state.sandbox(sandbox_id), self._state.container(sandbox_id)
        if record is None:
            raise NotFound(f"No such container: {sandbox_id}")
        if container is not None and container.phase is not Phase.ACTIVE:
            raise Conflict("container is marked for removal and its ports cannot be changed")
        return record, container

    # the host's packet filter

    def network_name(self, network_id: NetworkID) -> str:
        """A network's name; of one that has gone the id."""
        network = self._state.network(network_id)
        return network.name if network is not None else network_id[:_SHORT_ID]

    def container_name(self, endpoint_id: EndpointID) -> str:
        """The name of the container that has an endpoint; of one that has gone the id."""
        endpoint = self._state.endpoint(endpoint_id)
        record = self._state.sandbox(endpoint.sandbox_id) if endpoint is not None else None
        return record.name if record is not None else endpoint_id[:_SHORT_ID]

    def firewall_rules(self) -> list[FirewallEntry]:
        """Every rule and element of ours, driver by driver."""
        return [
            entry
            for _, driver in self._registry.drivers()
            if isinstance(driver, FirewallInsight)
            for entry in driver.firewall_rules()
        ]

    def firewall_reach(self) -> list[Reach]:
        """Who can reach each published port."""
        return [
            reach
            for _, driver in self._registry.drivers()
            if isinstance(driver, FirewallInsight)
            for reach in driver.firewall_reach()
        ]


class _Bindings:
    """Those of a container, found by their ports: there may be thousands, and as many wanted."""

    def __init__(self, bindings: Wishes) -> None:
        self._all: dict[tuple[str, int], list[PortBinding]] = {}
        self._at: dict[tuple[str, int, int], list[PortBinding]] = {}
        for item in bindings:
            port = item.protocol, item.container_port
            is_open = item.host_port_end > item.host_port
            self._all.setdefault(port, []).append(item)
            self._at.setdefault((*port, 0 if is_open else item.host_port), []).append(item)

    def near(self, wanted: PortBinding) -> list[PortBinding]:
        """Of one port of the container: with that port of the host, or with an open one."""
        port = wanted.protocol, wanted.container_port
        if not wanted.host_port or wanted.host_port_end > wanted.host_port:
            return self._all.get(port, [])
        return [*self._at.get((*port, wanted.host_port), ()), *self._at.get((*port, 0), ())]


def _named(name: str, wishes: _Bindings, real: _Bindings, wanted: PortBinding) -> Wishes:
    """The wishes that somebody means, who may as well name what came of them."""
    found = tuple(
        wish
        for wish in wishes.near(wanted)
        if _fits(wish, wanted)
        or any(is_one_of(port, wish) and _fits(port, wanted) for port in real.near(wish))
    )
    if not found:
        port = f"{wanted.container_port}/{wanted.protocol}"
        raise NotFound(f"No public port '{port}' published for {name}")
    return found


def _fits(port: PortBinding, wanted: PortBinding) -> bool:
    return (
        (port.protocol, port.container_port) == (wanted.protocol, wanted.container_port)
        and wanted.host_ip in (None, port.host_ip)
        and wanted.host_port in (0, port.host_port)
    )


def _asked(container: ContainerRecord, wishes: Wishes) -> ContainerRecord:
    """What inspect shows as asked for; all of it by name now."""
    shown = {
        **container.definition.host_config,
        "PortBindings": portdocs.asked(wishes),
        "PublishAllPorts": False,
    }
    definition = replace(container.definition, host_config=shown, ports=(), publish_all=False)
    return replace(container, definition=definition)
