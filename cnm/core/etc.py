"""What a container finds in /etc/hosts, /etc/hostname and /etc/resolv.conf, and of its links."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from cnm.containerapi import (
    DEFAULT_NETWORK,
    HOST_MODE,
    ContainerRecord,
    ContainerSettings,
    ContainerStatus,
)
from cnm.core import etcfiles, resolvconf
from cnm.core.containerfiles import (
    HOSTNAME,
    HOSTS,
    RESOLV_CONF,
    RESOLV_CONF_HASH,
    ContainerFiles,
)
from cnm.core.state import State
from cnm.errors import CNMError
from cnm.types import Endpoint, IPAddress, Phase, SandboxID

_RESOLV_CONF = Path("/etc/resolv.conf")
_RESOLVED_UPSTREAMS = Path("/run/systemd/resolve/resolv.conf")  # behind systemd's stub
_RESOLVED_STUB = ("127.0.0.53",)  # systemd's, which asks those of the other file
_HOSTS = Path("/etc/hosts")
_SHORT_ID = 12


class Etc:
    """Writes these files before each start, and again when networks change meanwhile."""

    def __init__(
        self,
        state: State,
        files: ContainerFiles,
        settings: ContainerSettings,
        has_resolver: Callable[[SandboxID], bool],
        leased_search: Callable[[SandboxID], tuple[str, ...]],
    ) -> None:
        self._state = state
        self._files = files
        self._settings = settings
        self._has_resolver = has_resolver
        self._leased_search = leased_search

    def prepare(self, record: ContainerRecord) -> None:
        """Write all three. One that shares another's stack has that one's files, too.

        :raises CNMError: a container that it is linked with does not run.
        """
        if record.shares_with is not None:
            return
        self._files.write(record.id, HOSTNAME, f"{self.hostname(record)}\n")
        self._write_resolv_conf(record)
        self.write_hosts(record)

    def hostname(self, record: ContainerRecord) -> str:
        """What its processes are told: as asked, the host's, or its short id."""
        if record.definition.hostname:
            return record.definition.hostname
        owner = self._owner(record)
        if owner is not None and owner.id != record.id:
            return self.hostname(owner)
        if record.definition.network_mode == HOST_MODE:
            return os.uname().nodename
        return record.id[:_SHORT_ID]

    def _owner(self, record: ContainerRecord) -> ContainerRecord | None:
        return self._state.container(record.shares_with) if record.shares_with else record

    def files_of(self, record: ContainerRecord) -> SandboxID:
        """Whose files it has: its own, or those of the container whose stack it shares."""
        owner = self._owner(record)
        return owner.id if owner is not None else record.id

    # resolv.conf

    def refresh_resolv_conf(self, record: ContainerRecord) -> None:
        """Write it again while the container runs, unless somebody has edited it."""
        if record.shares_with is not None:
            return
        present = self._files.read(record.id, RESOLV_CONF)
        ours = self._files.read(record.id, RESOLV_CONF_HASH).split()
        if not present or resolvconf.digest(present) in ours:
            self._write_resolv_conf(record, before=present)

    def _write_resolv_conf(self, record: ContainerRecord, before: str = "") -> None:
        text = self._resolv_conf(record)
        # both, and first: a daemon killed in between leaves nothing that looks edited
        known = (resolvconf.digest(before), resolvconf.digest(text))
        self._files.write(record.id, RESOLV_CONF_HASH, "\n".join(dict.fromkeys(known)))
        self._files.write(record.id, RESOLV_CONF, text)

    def _resolv_conf(self, record: ContainerRecord) -> str:
        wish, settings = record.definition.names, self._settings
        if record.definition.network_mode == HOST_MODE:
            host = resolvconf.parse(_read(_RESOLV_CONF), str(_RESOLV_CONF))
            return resolvconf.overridden(host, wish.servers, wish.search, wish.options).render()
        found = resolvconf.overridden(
            host_resolv_conf(),
            wish.servers or settings.dns,
            wish.search or settings.dns_search or self._leased_search(record.id),
            wish.options or settings.dns_options,
        )
        if self._has_resolver(record.id):
            return resolvconf.for_resolver(found).render()
        return resolvconf.for_bridge(found, ipv6=self._has_ipv6(record)).render()

    def _has_ipv6(self, record: ContainerRecord) -> bool:
        endpoints = self._state.endpoints_of_sandbox(record.id)
        return any(endpoint.interface.address_ipv6 for endpoint in endpoints)

    def write_hosts(self, record: ContainerRecord) -> None:
        """:raises CNMError: a container that it is linked with does not run."""
        further = [*self._asked(record), *self._linked(record)]
        if record.definition.network_mode == HOST_MODE:
            text = _read(_HOSTS) + "".join(f"{address}\t{name}\n" for address, name in further)
        else:
            text = etcfiles.hosts([*further, *self._own(record)])
        self._files.write(record.id, HOSTS, text)

    def _own(self, record: ContainerRecord) -> Iterable[tuple[IPAddress, str]]:
        called = etcfiles.host_names(self.hostname(record), record.definition.domainname)
        for endpoint in self._state.endpoints_of_sandbox(record.id):
            if endpoint.phase is Phase.ACTIVE:
                for address in _addresses(endpoint):
                    yield address, called

    def _asked(self, record: ContainerRecord) -> Iterable[tuple[IPAddress | str, str]]:
        for entry in record.definition.names.hosts:
            yield entry.address or self.host_gateway(), entry.name

    def host_gateway(self) -> str:
        """What ``host-gateway`` stands for: the host as containers reach it."""
        if self._settings.host_gateway is not None:
            return str(self._settings.host_gateway)
        network = self._state.network_named(DEFAULT_NETWORK)
        pools = network.ipv4 + network.ipv6 if network else ()
        gateways = [str(pool.gateway.ip) for pool in pools if pool.gateway]
        if not gateways:
            raise CNMError(
                "unable to derive the IP value for host-gateway: network bridge has no gateway"
            )
        return gateways[0]

    # links on the default bridge

    def _links(self, record: ContainerRecord) -> Iterable[tuple[ContainerRecord, str, IPAddress]]:
        for reference, alias in record.definition.names.links:
            target = self._state.container(SandboxID(reference))
            address = self._address_on_default(target) if target else None
            if target is None or target.status is not ContainerStatus.RUNNING:
                name = target.name if target else reference
                raise CNMError(
                    f"Cannot link to a non running container: /{name} AS /{record.name}/{alias}"
                )
            if address is None:
                raise CNMError(
                    f"Cannot link to /{target.name}, as it does not belong to the default network"
                )
            yield target, alias, address

    def _address_on_default(self, target: ContainerRecord) -> IPAddress | None:
        network = self._state.network_named(DEFAULT_NETWORK)
        endpoint = self._state.endpoint_between(network.id, target.id) if network else None
        return next(iter(_addresses(endpoint)), None) if endpoint else None

    def _linked(self, record: ContainerRecord) -> Iterable[tuple[IPAddress, str]]:
        for target, alias, address in self._links(record):
            called = dict.fromkeys((alias, self.hostname(target), target.name))
            yield address, " ".join(called)

    def link_variables(self, record: ContainerRecord) -> list[str]:
        """The variables that links bring; none while a linked container does not run."""
        found: list[str] = []
        try:
            for target, alias, address in self._links(record):
                wish = target.definition
                found += etcfiles.link_environment(
                    alias,
                    record.name,
                    str(address),
                    wish.exposed_ports,
                    wish.command.environment,
                )
        except CNMError:
            return []  # it is told at the start, where it counts
        return found


def _addresses(endpoint: Endpoint) -> list[IPAddress]:
    interface = endpoint.interface
    found = (interface.address, interface.address_ipv6)
    return [item.ip for item in found if item is not None]


def host_resolv_conf() -> resolvconf.ResolvConf:
    """The host's, as far as containers may use it: behind systemd's stub its upstreams."""
    host = resolvconf.parse(_read(_RESOLV_CONF), str(_RESOLV_CONF))
    if host.servers == _RESOLVED_STUB:
        return resolvconf.parse(_read(_RESOLVED_UPSTREAMS), str(_RESOLVED_UPSTREAMS))
    return host


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""  # a host without it: nothing is known
