"""Networks: created, deleted, found, pruned."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network

from cnm import labels
from cnm.core import subnets
from cnm.core.addressing import Addressing
from cnm.core.events import Events
from cnm.core.locks import Locks
from cnm.core.registry import Registry
from cnm.core.state import State
from cnm.core.wires import WireGuard
from cnm.driverapi import NetworkChecker, NetworkDriver
from cnm.errors import CNMError, Conflict, Forbidden, InvalidParameter, NotFound
from cnm.ipamapi import PresenceChecker
from cnm.types import (
    Endpoint,
    IPAddress,
    IpamConfig,
    IPNetwork,
    Network,
    NetworkID,
    NetworkRequest,
    Phase,
    Scope,
)
from cnm.undo import Teardown, Undo

log = logging.getLogger(__name__)

DEFAULT_DRIVER = "bridge"
PREDEFINED = ("bridge", "host", "none")
USUAL_SUBNET = ip_network("172.17.0.0/16")  # of the default network, as Docker's
RESERVED_NAMES = (*PREDEFINED, "default")


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """What the configuration says about the default network."""

    default_bridge_name: str = "cnm0"
    default_bridge_subnet: IPNetwork | None = None
    default_bridge_gateway: IPAddress | None = None
    default_mtu: int = 1500
    default_bridge_options: Mapping[str, str] = field(default_factory=dict)
    network_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by driver


class Networks:
    """The verbs on networks."""

    def __init__(
        self,
        state: State,
        registry: Registry,
        locks: Locks,
        addressing: Addressing,
        wires: WireGuard,
        events: Events,
        settings: CoreSettings,
    ) -> None:
        self._state = state
        self._registry = registry
        self._locks = locks
        self._addressing = addressing
        self._wires = wires
        self._events = events
        self._settings = settings

    # looking

    def find(self, reference: str) -> Network:
        """By id, name or unique id prefix. :raises NotFound: :raises InvalidParameter:"""
        return self._state.find_network(reference)

    def all(self) -> list[Network]:
        """All networks that stand, oldest first."""
        return [item for item in self._state.networks() if item.phase is not Phase.CREATING]

    def in_use(self, network_id: NetworkID) -> bool:
        """Whether an endpoint of a running sandbox is on it."""
        return bool(self._state.active_endpoints(network_id))

    # creating

    def create(self, request: NetworkRequest) -> Network:
        """Make a network. Everything is checked before anything changes.

        :raises InvalidParameter: :raises Forbidden: :raises Conflict: :raises NotFound:
        :raises KernelError: the driver failed; nothing is left behind.
        """
        if not request.name.strip():
            raise InvalidParameter("invalid name: name is empty")
        if any(not character.isprintable() for character in request.name):
            raise InvalidParameter("invalid name: it has control characters")
        if request.name in RESERVED_NAMES:
            raise Forbidden(f"operation is not permitted on predefined {request.name} network ")
        return self._create(request, predefined=False)

    def _create(self, request: NetworkRequest, *, predefined: bool) -> Network:
        with self._locks.name(f"network {request.name}"):
            if self._state.network_named(request.name) is not None:
                raise Conflict(f"network with name {request.name} already exists")
            network = self._draft(request, predefined)
            if network.config_only:
                active = replace(network, phase=Phase.ACTIVE)
                self._state.write(put=[active], durable=True)
            else:
                active = self._make(network)
        self._tell("create", active)
        return active

    def _draft(self, request: NetworkRequest, predefined: bool) -> Network:
        """The record as it will be, or the reason why it cannot be. Changes nothing."""
        _check_scope(request)
        if request.config_only:
            return _draft_config_only(request)
        request = self._with_config_from(request)
        subnets.check_config(request.ipam_config)
        driver = self._registry.driver(request.driver or DEFAULT_DRIVER)
        ipam = self._registry.ipam(request.ipam_driver)
        if isinstance(ipam, PresenceChecker):
            ipam.check_present()
        enable_ipv4 = request.enable_ipv4 is not False
        enable_ipv6 = request.enable_ipv6 is True
        if not (enable_ipv4 or enable_ipv6) and driver.capability.addressed:
            raise InvalidParameter("IPv4 or IPv6 must be enabled")
        subnets.check_families(request.ipam_config, ipv4=enable_ipv4, ipv6=enable_ipv6)
        network = Network(
            id=NetworkID(secrets.token_hex(32)),
            name=request.name,
            driver=driver.name,
            phase=Phase.CREATING,
            created_ns=time.time_ns(),
            enable_ipv4=enable_ipv4,
            enable_ipv6=enable_ipv6,
            internal=request.internal,
            attachable=request.attachable,
            config_from=request.config_from,
            predefined=predefined,
            options=request.options if predefined else self._with_defaults(driver, request),
            labels=request.labels,
            ipam_driver=request.ipam_driver,
            ipam_options=request.ipam_options,
            ipam_config=request.ipam_config,
        )
        self._check_driver(driver, network)
        return network

    def _with_defaults(self, driver: NetworkDriver, request: NetworkRequest) -> Mapping[str, str]:
        """The request's options over those that the configuration has for its driver."""
        return {**self._settings.network_options.get(driver.name, {}), **request.options}

    def _check_driver(self, driver: NetworkDriver, network: Network) -> None:
        limit = driver.capability.instances
        if limit is not None:
            held = [item for item in self._state.networks() if item.driver == driver.name]
            if len(held) >= limit:
                raise Forbidden(f'only one instance of "{driver.name}" network is allowed')
        if isinstance(driver, NetworkChecker):
            driver.check_network(network.spec())
        labels.parse_dns_servers(labels.NETWORK_DNS, network.options.get(labels.NETWORK_DNS, ""))
        probe = network.options.get(labels.CONFLICT_PROBE, "true")
        labels.parse_bool(labels.CONFLICT_PROBE, probe)
        self._addressing.check_wire(network, self._wires.wire(network))
        if driver.capability.addressed:
            self._addressing.check_pools(network)

    def _with_config_from(self, request: NetworkRequest) -> NetworkRequest:
        if not request.config_from:
            return request
        source = self._state.network_named(request.config_from)
        if source is None:
            raise NotFound(f"network {request.config_from} not found")
        if not source.config_only:
            raise Forbidden(f'"{request.config_from}" is not a configuration network')
        if request.ipam_config or request.ipam_options or request.options or request.enable_ipv6:
            raise Forbidden(
                "user supplied configurations are not supported if the network depends on a "
                "configuration network"
            )
        return replace(
            request,
            options=source.options,
            labels={**source.labels, **request.labels},
            enable_ipv4=source.enable_ipv4,
            enable_ipv6=source.enable_ipv6,
            ipam_driver=source.ipam_driver,
            ipam_options=source.ipam_options,
            ipam_config=source.ipam_config,
        )

    def _make(self, network: Network) -> Network:
        driver = self._registry.driver(network.driver)
        skip = (False, False)
        if isinstance(driver, NetworkChecker):
            skip = driver.skip_gateway(network.spec())
        with self._locks.network(network.id, exclusive=True), Undo() as undo:
            self._state.write(put=[network])
            undo.push(self._forget, network)
            if driver.capability.addressed:
                network = self._addressing.request_pools(network, skip, self._devices(network))
                undo.push(self._addressing.release_pools, network)
            driver.create_network(network.spec())
            undo.push(driver.delete_network, network.id)
            network = replace(network, phase=Phase.ACTIVE)
            self._state.write(put=[network], durable=True)
        return network

    def _forget(self, network: Network) -> None:
        self._state.write(remove=[network])

    def _devices(self, network: Network) -> set[str]:
        """Devices whose routes are no conflict: an existing bridge, or the wire that it is on."""
        wire = self._wires.wire(network)
        named = network.options.get(labels.BRIDGE_NAME)
        return {name for name in (named, wire.link if wire else None) if name}

    # deleting

    def delete(self, reference: str) -> Network:
        """Remove a network that nobody uses.

        :raises Forbidden: it is predefined, or in use (says by whom).
        :raises TeardownError: parts could not be removed; the next sweep tries again.
        """
        network = self._state.find_network(reference)
        if network.predefined:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        with self._locks.network(network.id, exclusive=True):
            if self._state.network(network.id) is None:
                raise NotFound(f"network {reference} not found")
            self._refuse_in_use(network)
            self.take_down(network)
        self._tell("destroy", network)
        return network

    def _refuse_in_use(self, network: Network) -> None:
        holders = self._state.active_endpoints(network.id)
        if holders:
            raise Forbidden(
                f"error while removing network: network {network.name} has active endpoints "
                f"({', '.join(self._holder(item) for item in holders)})"
            )
        users = [item for item in self._state.networks() if item.config_from == network.name]
        if network.config_only and users:
            raise Forbidden(f'configuration network "{network.name}" is in use')

    def _holder(self, endpoint: Endpoint) -> str:
        sandbox = self._state.sandbox(endpoint.sandbox_id)
        name = sandbox.name if sandbox else ""
        return f'name:"{name}" id:"{endpoint.id[:12]}"'

    def take_down(self, network: Network) -> None:
        """Remove all of a network, its wishes of stopped containers too. Idempotent.

        The caller holds the network's lock exclusively.

        :raises TeardownError: with all that failed; the record stays, marked for deletion.
        """
        network = replace(network, phase=Phase.DELETING)
        reserved = self._state.endpoints_of_network(network.id)
        if not network.config_only:
            self._state.write(put=[network])
            teardown = Teardown(f"remove network {network.name}")
            with teardown.step():
                self._registry.driver(network.driver).delete_network(network.id)
            with teardown.step():
                self._addressing.release_pools(network)
            teardown.finish()
        self._state.write(remove=[network, *reserved], durable=True)

    def prune(self, match: Callable[[Network], bool]) -> list[Network]:
        """Remove every network that is unused, not predefined, and matches."""
        removed = []
        for network in self.all():
            if network.predefined or network.config_only or self.in_use(network.id):
                continue
            if not match(network):
                continue
            try:
                removed.append(self.delete(network.id))
            except (Forbidden, NotFound):
                continue  # somebody attached to it, or removed it, meanwhile
            except (CNMError, ExceptionGroup) as error:
                log.warning("prune: %s", error)
        if removed:
            self._events.publish("network", "prune", "", {"reclaimed": "0"})
        return removed

    def _tell(self, action: str, network: Network) -> None:
        self._events.publish(
            "network", action, network.id, {"name": network.name, "type": network.driver}
        )

    # predefined networks

    def ensure_predefined(self) -> None:
        """Have the networks ``bridge``, ``host`` and ``none``, as on a new host.

        A default network that the configuration now wants otherwise is made anew, if
        no container has it; else it stays, and a log line says so.
        """
        self._give_up_outdated()
        for name in PREDEFINED:
            if self._state.network_named(name) is not None:
                continue
            request = (
                self._default_bridge()
                if name == "bridge"
                else NetworkRequest(name, "host" if name == "host" else "null")
            )
            network = self._create(request, predefined=True)
            self._tell_pool(network)

    def _give_up_outdated(self) -> None:
        network, wanted = self._state.network_named("bridge"), self._default_bridge()
        if network is None or self._is_as(network, wanted):
            return
        if self._state.endpoints_of_network(network.id):
            log.warning(
                "network bridge stays as it was made: containers use it; disconnect them and "
                "start the daemon again to have it as configured"
            )
            return
        log.info("network bridge is made anew: its configuration has changed")
        with self._locks.network(network.id, exclusive=True):
            self.take_down(network)

    def _is_as(self, network: Network, wanted: NetworkRequest) -> bool:
        same_options = network.options == wanted.options
        return same_options and all(
            any(
                config.subnet == held.subnet and config.gateway in (None, held.gateway)
                for held in network.ipam_config
            )
            for config in wanted.ipam_config
        )

    def _tell_pool(self, network: Network) -> None:
        """Say why the default network has not the subnet that everybody knows."""
        for pool in network.ipv4:
            route = self._addressing.route_over(USUAL_SUBNET)
            if route is not None and pool.pool != USUAL_SUBNET:
                log.warning(
                    "default network %s: route %s of this host lies on %s, using %s",
                    network.name,
                    route,
                    USUAL_SUBNET,
                    pool.pool,
                )

    def _default_bridge(self) -> NetworkRequest:
        settings = self._settings
        options = {
            labels.BRIDGE_DEFAULT: "true",
            labels.BRIDGE_ICC: "true",
            labels.BRIDGE_MASQUERADE: "true",
            labels.BRIDGE_HOST_BINDING_IPV4: "0.0.0.0",
            labels.BRIDGE_NAME: settings.default_bridge_name,
            labels.MTU: str(settings.default_mtu),
        }
        config: tuple[IpamConfig, ...] = ()
        if settings.default_bridge_subnet is not None:
            config = (
                IpamConfig(settings.default_bridge_subnet, gateway=settings.default_bridge_gateway),
            )
        return NetworkRequest(
            "bridge",
            DEFAULT_DRIVER,
            options={**options, **settings.default_bridge_options},
            ipam_config=config,
        )


def _check_scope(request: NetworkRequest) -> None:
    swarm = (
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to '
        "connect this node to swarm and try again."
    )
    if request.ingress or request.scope in (Scope.SWARM, Scope.GLOBAL):
        raise Forbidden(swarm)
    if request.scope not in ("", Scope.LOCAL):
        raise InvalidParameter(f'invalid scope "{request.scope}": must be local, global or swarm')


def _draft_config_only(request: NetworkRequest) -> Network:
    if request.internal or request.attachable or request.ingress or request.scope:
        raise Forbidden(
            "configuration network can only contain network specific fields. Network operator "
            "fields like [ ingress | internal | attachable | scope ] are not supported."
        )
    if request.config_from:
        raise Forbidden("a configuration network cannot depend on another configuration network")
    subnets.check_config(request.ipam_config)
    return Network(
        id=NetworkID(secrets.token_hex(32)),
        name=request.name,
        driver="null",
        phase=Phase.CREATING,
        created_ns=time.time_ns(),
        enable_ipv4=request.enable_ipv4 is not False,
        enable_ipv6=request.enable_ipv6 is True,
        config_only=True,
        options=request.options,
        labels=request.labels,
        ipam_driver=request.ipam_driver,
        ipam_options=request.ipam_options,
        ipam_config=request.ipam_config,
    )
