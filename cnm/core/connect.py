"""Connect and disconnect: endpoint and join as one unit of work, and its inverse."""

from __future__ import annotations

import errno
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from cnm.containerapi import NO_NETWORK, ContainerRecord
from cnm.core import gateway, interfacenames
from cnm.core.claims import Claims
from cnm.core.endpointcheck import is_static, request_faults
from cnm.core.events import Events
from cnm.core.locks import Locks
from cnm.core.naming import Naming
from cnm.core.publishing import Publishing
from cnm.core.registry import Registry
from cnm.core.state import State
from cnm.core.wires import WireGuard
from cnm.driverapi import LinkFinder, NetworkDriver
from cnm.errors import (
    CNMError,
    Forbidden,
    InvalidParameter,
    KernelError,
    NotFound,
    SandboxGone,
)
from cnm.sandboxapi import Sandbox, SandboxProvider
from cnm.types import (
    Endpoint,
    EndpointID,
    EndpointInterface,
    EndpointRequest,
    Network,
    NetworkID,
    Phase,
    SandboxID,
    SandboxRecord,
    SandboxStatus,
)
from cnm.undo import Teardown, Undo

log = logging.getLogger(__name__)

HOST = "host"  # the predefined network of containers without a stack of their own
NetworksChanged = Callable[[SandboxID, Network, EndpointRequest | None], None]  # None: left


class Connections:
    """The verbs between networks and sandboxes."""

    def __init__(
        self,
        state: State,
        registry: Registry,
        locks: Locks,
        claims: Claims,
        wires: WireGuard,
        events: Events,
        sandboxes: SandboxProvider,
        naming: Naming,
        publishing: Publishing,
    ) -> None:
        self._state = state
        self._registry = registry
        self._locks = locks
        self._claims = claims
        self._wires = wires
        self._events = events
        self._sandboxes = sandboxes
        self._naming = naming
        self._publishing = publishing
        self._watchers: list[NetworksChanged] = []

    def watch(self, changed: NetworksChanged) -> None:
        """Call ``changed`` after each connect and disconnect, outside all locks."""
        self._watchers.append(changed)

    # connect

    def connect(
        self, network_reference: str, container_reference: str, request: EndpointRequest
    ) -> Endpoint:
        """Join a container to a network; for a stopped one only the wish is kept.

        :raises NotFound: :raises InvalidParameter: :raises Forbidden: :raises Conflict:
        :raises KernelError: nothing is left behind.
        """
        network = self._state.find_network(network_reference)
        record = self._state.find_sandbox(container_reference)
        with (
            self._locks.sandbox(record.id),
            self._locks.networks(self.concerned(record.id, network.id)),
        ):
            network, record = self._still_there(network, record)
            self._check(network, record, request)
            endpoint = self._draft(network, record.id, request)
            if record.status is SandboxStatus.EXITED:
                endpoint = self._reserve(network, record, endpoint)
            else:
                self._publishing.check_on(network, record.publish)
                endpoint = self._attach(network, record, endpoint)
        if endpoint.phase is Phase.ACTIVE:
            self._tell("connect", network, record)
        for changed in self._watchers:
            changed(record.id, network, request)
        return endpoint

    def attach_reserved(self, record: SandboxRecord) -> None:
        """Join a container that runs again to the networks that it had.

        The caller holds the sandbox's lock. A network that cannot be joined is an error;
        those before it stay joined.
        """
        wishes = [
            (network, endpoint)
            for endpoint in self._state.endpoints_of_sandbox(record.id)
            if endpoint.phase is Phase.RESERVED
            and (network := self._state.network(endpoint.network_id)) is not None
        ]
        for left, (network, endpoint) in zip(reversed(range(len(wishes))), wishes, strict=True):
            with self._locks.networks(self.concerned(record.id, network.id)):
                # ports follow the default route, which is where it stays with the last one only
                self._attach(network, record, endpoint, publish=left == 0)
            self._tell("connect", network, record)

    def concerned(self, sandbox_id: SandboxID, *others: NetworkID) -> set[NetworkID]:
        """The networks that ports of a sandbox are on, or may come to, and these."""
        record = self._state.sandbox(sandbox_id)
        return set(others) if record is None else self._publishing.networks(record, *others)

    def _still_there(
        self, network: Network, record: SandboxRecord
    ) -> tuple[Network, SandboxRecord]:
        """Look again under the locks: either may have gone since it was found."""
        network_now = self._state.network(network.id)
        if network_now is None or network_now.phase is not Phase.ACTIVE:
            raise NotFound(f"network {network.name} not found")
        record_now = self._state.sandbox(record.id)
        if record_now is None:
            raise NotFound(f"No such container: {record.name}")
        return network_now, record_now

    def _check(self, network: Network, record: SandboxRecord, request: EndpointRequest) -> None:
        if network.config_only:
            raise Forbidden("cannot create endpoint on configuration-only network")
        attachable = self._registry.driver(network.driver).capability.attachable
        if not attachable and network.name == HOST:
            raise InvalidParameter(
                "cannot connect container to host network - container must be created in host "
                "network mode"
            )
        if _is_on_none(self._state.container(record.id)) or not attachable:
            raise InvalidParameter(
                "container cannot be connected to multiple networks with one of the networks in "
                "private (none) mode"
            )
        if self._state.endpoint_between(network.id, record.id) is not None:
            raise Forbidden(
                f"endpoint with name {record.name} already exists in network {network.name}"
            )
        faults = request_faults(network, request)
        if faults:
            raise InvalidParameter("invalid endpoint settings:\n" + "\n".join(faults))

    def _draft(self, network: Network, sandbox_id: SandboxID, request: EndpointRequest) -> Endpoint:
        return Endpoint(
            EndpointID(secrets.token_hex(32)),
            network.id,
            sandbox_id,
            Phase.CREATING,
            time.time_ns(),
            request,
        )

    def _reserve(self, network: Network, record: SandboxRecord, endpoint: Endpoint) -> Endpoint:
        """Keep the wish of a stopped container, and its static addresses."""
        with Undo() as undo:
            endpoint = replace(endpoint, phase=Phase.RESERVED)
            if is_static(endpoint.request):
                interface = self._claims.reserve(network, record, endpoint.request)
                undo.push(self._claims.release, network, interface)
                endpoint = replace(endpoint, interface=interface)
            self._state.write(put=[endpoint], durable=True)
        return endpoint

    def _attach(
        self,
        network: Network,
        record: SandboxRecord,
        endpoint: Endpoint,
        *,
        publish: bool = True,
    ) -> Endpoint:
        driver = self._registry.driver(network.driver)
        before = endpoint
        with self._sandboxes.open(record, joining=True) as sandbox, Undo() as undo:
            name = interfacenames.choose(
                self._state, network, record, endpoint, sandbox.has_interface
            )
            revived = before.phase is Phase.RESERVED
            endpoint = replace(endpoint, phase=Phase.CREATING, interface_name=name, revived=revived)
            self._state.write(put=[endpoint])
            undo.push(self._back_to, before)
            interface = self._claims.take(network, record, before, undo)
            endpoint = replace(endpoint, interface=interface)
            endpoint = self._join(driver, network, record, endpoint, sandbox, undo)
            with self._naming.joining(network, record, endpoint, sandbox, undo):
                self._place(endpoint, sandbox)
                self._switch_gateway(record, endpoint, sandbox, undo)
                moved = (
                    self._publishing.settle(record, record.publish, undo, endpoint)
                    if publish
                    else {}
                )
            endpoint = moved.pop(endpoint.id, endpoint)
            endpoint = replace(endpoint, phase=Phase.ACTIVE, revived=False)
            self._state.write(put=[*moved.values(), endpoint])
        self._wires.changed(network)
        return endpoint

    def _back_to(self, endpoint: Endpoint) -> None:
        """What a failed attach leaves: a reserved endpoint as it was, a new one not at all."""
        if endpoint.phase is Phase.RESERVED:
            self._state.write(put=[endpoint])
        else:
            self._state.write(remove=[endpoint])

    def _join(
        self,
        driver: NetworkDriver,
        network: Network,
        record: SandboxRecord,
        endpoint: Endpoint,
        sandbox: Sandbox,
        undo: Undo,
    ) -> Endpoint:
        options = endpoint.request.driver_opts
        interface = driver.create_endpoint(network.id, endpoint.id, endpoint.interface, options)
        undo.push(driver.delete_endpoint, network.id, endpoint.id)
        join = driver.join(network.id, endpoint.id, record.key, endpoint.interface_name, options)
        join = self._claims.routed(network, interface, join)
        if not join.placed:
            join = interfacenames.of_moved(
                self._state, join, record, endpoint, sandbox.has_interface
            )
            endpoint = replace(endpoint, interface_name=join.interface_name)
            undo.push(sandbox.remove_interface, join.interface_name)  # after leave, as engines do
        undo.push(driver.leave, network.id, endpoint.id)
        return replace(endpoint, interface=interface, join=join)

    def _place(self, endpoint: Endpoint, sandbox: Sandbox) -> None:
        """Configure its interface, which its driver has made, or which is to be moved in."""
        join = endpoint.join
        if join is None or not (join.placed or join.source_name):
            return
        if not join.placed:
            # a daemon that is killed here has to find the link where it was moved to
            self._state.write(put=[endpoint])
        sandbox.add_interface(join, endpoint.interface)

    # default gateways

    def routes(self, sandbox_id: SandboxID, besides: Endpoint | None = None) -> gateway.Routes:
        """The default routes that a sandbox should have, with one more endpoint if given."""
        return gateway.routes(*gateway.of_sandbox(self._state, sandbox_id, besides))

    def _switch_gateway(
        self, record: SandboxRecord, joining: Endpoint, sandbox: Sandbox, undo: Undo
    ) -> None:
        before, after = self.routes(record.id), self.routes(record.id, joining)
        if before != after:
            v6_too = (before[1], after[1]) != (None, None)
            undo.push(partial(sandbox.set_default_gateway, *before, v6_too=v6_too))
            sandbox.set_default_gateway(*after, v6_too=v6_too)

    # disconnect

    def disconnect(self, network_reference: str, container_reference: str) -> None:
        """Take a container off a network; every step is tried, whatever fails.

        :raises NotFound: no such network or container.
        :raises CNMError: it is not connected.
        :raises TeardownError: with all that failed; the sweep tries the rest again.
        """
        network = self._state.find_network(network_reference)
        container = self._state.find_any(container_reference)
        if _is_on_none(container) and network.name == NO_NETWORK:
            self._leave_none(network, container)
            return
        if not self._registry.driver(network.driver).capability.attachable:
            raise InvalidParameter(
                f"cannot disconnect container from {network.name} network - container was created "
                f"in {network.name} network mode"
            )
        record = self._state.find_sandbox(container_reference)
        with (
            self._locks.sandbox(record.id),
            self._locks.networks(self.concerned(record.id, network.id)),
        ):
            endpoint = self._state.endpoint_between(network.id, record.id)
            if endpoint is None:
                raise CNMError(f"container {record.id} is not connected to network {network.name}")
            self.detach(network, record, endpoint)
        self._tell("disconnect", network, record)
        for changed in self._watchers:
            changed(record.id, network, None)

    def _leave_none(self, network: Network, container: ContainerRecord | SandboxRecord) -> None:
        """As Docker: from here on it can be connected to others."""
        record = self._state.find_sandbox(container.id)
        self._tell("disconnect", network, record)
        for changed in self._watchers:
            changed(container.id, network, None)

    def detach(
        self, network: Network, record: SandboxRecord, endpoint: Endpoint, *, last: bool = False
    ) -> None:
        """Undo a connect. The caller holds the sandbox's and the network's lock.

        ``last``: it leaves the others too, so its ports move to none of them.

        :raises TeardownError: with all that failed; the record stays, marked for deletion.
        """
        wish = endpoint.phase is Phase.RESERVED
        routes_before = self.routes(record.id)
        endpoint = replace(endpoint, phase=Phase.DELETING)
        self._state.write(put=[endpoint])
        teardown = Teardown(f"disconnect {record.name} from {network.name}")
        if not wish:
            self._unlink(teardown, network, record, endpoint, routes_before)
        self._let_go(teardown, network, endpoint)
        if not wish and not last:
            self.move_ports(record)
        self._wires.changed(network)

    def _let_go(self, teardown: Teardown, network: Network, endpoint: Endpoint) -> None:
        """Give its addresses back; its record goes too, or stays without them, if more is to do.

        :raises TeardownError: with all that failed so far.
        """

        def written() -> None:
            if teardown.has_failed:
                bare = replace(endpoint.interface, address=None, address_ipv6=None)
                self._state.write(put=[replace(endpoint, interface=bare)])
            else:
                self._state.write(remove=[endpoint])

        with teardown.step():
            self._claims.release(network, endpoint.interface, written)
        teardown.finish()

    def move_ports(self, record: SandboxRecord) -> None:
        """Have a sandbox's ports where its default route is now; as for locks see ``settle_ports``.

        A port that cannot be had there must not keep a container on a network.
        """
        try:
            self.settle_ports(record, moving=True)
        except CNMError as error:
            log.warning("container %s: %s; the next sweep tries again", record.name, error)

    def settle_ports(self, record: SandboxRecord, *, moving: bool = False) -> bool:
        """Publish what a sandbox asks for where its default route is; whether that was to do.

        The caller holds the sandbox's lock, and those of all its networks.
        """
        with Undo() as undo:
            current = self._state.sandbox(record.id) or record
            changed = self._publishing.settle(current, current.publish, undo, moving=moving)
            if changed:
                self._state.write(put=list(changed.values()))
        return bool(changed)

    def _unlink(
        self,
        teardown: Teardown,
        network: Network,
        record: SandboxRecord,
        endpoint: Endpoint,
        routes_before: gateway.Routes,
    ) -> None:
        driver = self._registry.driver(network.driver)
        with self._naming.leaving(teardown, network, record, endpoint):
            with teardown.step():
                self._publishing.revoke(endpoint)
            with teardown.step():
                _leave(driver, endpoint, record)
            if endpoint.join is not None and not endpoint.join.placed:
                with teardown.step():
                    self._take_out(record, endpoint)
            routes_after = self.routes(record.id)
            if routes_after != routes_before and routes_after != (None, None):
                with teardown.step():
                    self._set_gateway(record, routes_after)
            with teardown.step():
                driver.delete_endpoint(network.id, endpoint.id)

    def _take_out(self, record: SandboxRecord, endpoint: Endpoint) -> None:
        try:
            with self._sandboxes.open(record) as sandbox:
                sandbox.remove_interface(endpoint.interface_name)
        except SandboxGone:
            log.debug("sandbox %s is gone, and its interfaces with it", record.name)

    def _set_gateway(self, record: SandboxRecord, routes: gateway.Routes) -> None:
        try:
            with self._sandboxes.open(record) as sandbox:
                sandbox.set_default_gateway(*routes)
        except SandboxGone:
            log.debug("sandbox %s is gone, and its routes with it", record.name)
        except KernelError as error:
            if error.errno != errno.ENODEV:
                raise
            log.warning("container %s: %s; the next sweep mends it", record.name, error)

    def park(self, network: Network, record: SandboxRecord, endpoint: Endpoint) -> None:
        """The namespace of a container is gone: keep its wish and static addresses only.

        A disconnect that was under way is finished, a first connect undone: no wish stays.
        The caller holds the sandbox's and the network's lock.
        """
        driver = self._registry.driver(network.driver)
        teardown = Teardown(f"container {record.name} left {network.name}")
        with self._naming.leaving(teardown, network, record, endpoint):
            with teardown.step():
                self._publishing.revoke(endpoint)
            with teardown.step():
                _leave(driver, endpoint, record)
            with teardown.step():
                driver.delete_endpoint(network.id, endpoint.id)
        half_way = endpoint.phase in (Phase.CREATING, Phase.DELETING)
        if half_way and not endpoint.revived:
            self._let_go(teardown, network, endpoint)
            return
        request = endpoint.request
        static = EndpointInterface(
            endpoint.interface.address if request.ipv4 else None,
            endpoint.interface.address_ipv6 if request.ipv6 else None,
            request.mac,
        )
        dynamic = EndpointInterface(
            None if request.ipv4 else endpoint.interface.address,
            None if request.ipv6 else endpoint.interface.address_ipv6,
        )
        parked = replace(
            endpoint,
            phase=Phase.RESERVED,
            interface=static if is_static(request) else EndpointInterface(),
            interface_name="",
            join=None,
            revived=False,
            ports=(),
        )

        def written() -> None:
            left = replace(endpoint, interface=static)
            self._state.write(put=[left if teardown.has_failed else parked])

        with teardown.step():
            self._claims.release(network, dynamic, written)
        teardown.finish()
        self._wires.changed(network)

    def tell_left(self, network: Network, record: SandboxRecord) -> None:
        """The event of a container that stopped."""
        self._tell("disconnect", network, record)

    def _tell(self, action: str, network: Network, record: SandboxRecord) -> None:
        self._events.publish(
            "network",
            action,
            network.id,
            {"container": record.id, "name": network.name, "type": network.driver},
        )


def _leave(driver: NetworkDriver, endpoint: Endpoint, record: SandboxRecord) -> None:
    if isinstance(driver, LinkFinder):
        driver.link_is_in(endpoint.id, record.key)
    driver.leave(endpoint.network_id, endpoint.id)


def _is_on_none(container: ContainerRecord | SandboxRecord | None) -> bool:
    return isinstance(container, ContainerRecord) and container.predefined == NO_NETWORK
