"""Network stacks: adopted namespaces, and those that containers of the runtime are given."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace

from cnm.core import names
from cnm.core.connect import Connections
from cnm.core.events import Events
from cnm.core.locks import Locks
from cnm.core.naming import Naming
from cnm.core.state import State
from cnm.errors import Conflict, InvalidParameter, NotFound, SandboxGone
from cnm.idmap import IdMap
from cnm.sandboxapi import SandboxProvider
from cnm.types import (
    Endpoint,
    NamespaceIdentity,
    Phase,
    SandboxID,
    SandboxKey,
    SandboxRecord,
    SandboxStatus,
)
from cnm.undo import Teardown, Undo


class Sandboxes:
    """The verbs on sandboxes."""

    def __init__(
        self,
        state: State,
        locks: Locks,
        connections: Connections,
        events: Events,
        provider: SandboxProvider,
        naming: Naming,
    ) -> None:
        self._state = state
        self._locks = locks
        self._connections = connections
        self._events = events
        self._provider = provider
        self._naming = naming

    def find(self, reference: str) -> SandboxRecord:
        """By id, name or unique id prefix. :raises NotFound: :raises InvalidParameter:"""
        return self._state.find_sandbox(reference)

    def all(self) -> list[SandboxRecord]:
        """All containers, oldest first."""
        return self._state.sandboxes()

    def adopt(
        self, name: str, netns: str = "", pid: int = 0, labels: Mapping[str, str] | None = None
    ) -> SandboxRecord:
        """Make an existing namespace a container. Changes nothing in the namespace.

        The name of a container whose namespace is gone may be adopted again: it gets
        its networks and static addresses back.

        :raises InvalidParameter: bad name, or no network namespace there.
        :raises NotFound: no such path or process.
        :raises Conflict: the name, or the namespace, is a container already (named).
        """
        name = names.check(name)
        if bool(netns) == bool(pid):
            raise InvalidParameter("name one namespace: either --netns PATH or --pid PID")
        key = SandboxKey(netns or f"/proc/{pid}/ns/net")
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._locks.name(f"container {name}"))
            identity, loopback_up = self._provider.identify(key)
            stack.enter_context(self._locks.name(f"namespace {identity.cookie}"))
            former = self._state.sandbox_named(name)
            self._refuse_taken(name, former, key, identity)
            record = SandboxRecord(
                former.id if former else SandboxID(secrets.token_hex(32)),
                name,
                key,
                identity,
                SandboxStatus.RUNNING,
                time.time_ns(),
                pid=pid,
                loopback_was_up=loopback_up,
                labels=labels or {},
                publish=former.publish if former else (),
            )
            with self._locks.sandbox(record.id), Undo() as undo:
                self._state.write(put=[record], durable=True)
                if former is not None:
                    undo.push(self.park_all, record)
                    self._connections.attach_reserved(record)
        self._events.publish(
            "container", "start" if former else "create", record.id, {"name": name}
        )
        return record

    def _refuse_taken(
        self,
        name: str,
        former: SandboxRecord | None,
        key: SandboxKey,
        identity: NamespaceIdentity,
    ) -> None:
        holder = self._state.container_named(name)
        if former is not None and self.alive(former):
            raise names.in_use(name, former.id)
        if holder is not None:
            raise names.in_use(name, holder.id)
        if former is not None and former.status is SandboxStatus.RUNNING:
            self.mark_exited(former)
        for other in self._state.sandboxes():
            if other.identity == identity and other.status is SandboxStatus.RUNNING:
                raise Conflict(f'namespace {key} is container "{other.name}" already')

    def identity(self, netns: str) -> NamespaceIdentity:
        """Of the namespace at a path. :raises NotFound: :raises InvalidParameter:"""
        return self._provider.identify(SandboxKey(netns))[0]

    def alive(self, record: SandboxRecord) -> bool:
        """Whether it is known to run, and its namespace is where it was."""
        if record.status is SandboxStatus.EXITED:
            return False
        try:
            with self._provider.open(record):
                return True
        except SandboxGone:
            return False

    def release(self, reference: str) -> SandboxRecord:
        """Take an adopted container off its networks and give the namespace back as it was.

        :raises NotFound: no such container.
        :raises InvalidParameter: it is a container of the runtime.
        :raises TeardownError: with all that failed; it can be tried again.
        """
        record = self._state.find_sandbox(reference)
        if not record.adopted:
            raise InvalidParameter(
                f"container {record.name} was not adopted: remove it with `cnm rm`"
            )
        with self._locks.sandbox(record.id):
            current = self._state.sandbox(record.id)
            if current is None:
                raise NotFound(f"No such container: {reference}")
            record = current
            teardown = Teardown(f"release {record.name}")
            with teardown.step():
                self.detach_all(record)
            with teardown.step():
                self._give_back(record)
            teardown.finish()
            self._state.write(remove=[record], durable=True)
        self._events.publish("container", "destroy", record.id, {"name": record.name})
        return record

    def detach_all(self, record: SandboxRecord) -> None:
        """Take it off every network, forget its wishes. The caller holds the sandbox's lock.

        :raises TeardownError: with all that failed; it can be tried again.
        """
        teardown = Teardown(f"disconnect {record.name}")
        for endpoint in self._state.endpoints_of_sandbox(record.id):
            with teardown.step():
                self._detach(record, endpoint)
        teardown.finish()

    def _detach(self, record: SandboxRecord, endpoint: Endpoint) -> None:
        with self._locks.network(endpoint.network_id):
            network = self._state.network(endpoint.network_id)
            if network is None:
                self._state.write(remove=[endpoint])
            else:
                self._connections.detach(network, record, endpoint, last=True)

    def _give_back(self, record: SandboxRecord) -> None:
        if record.status is SandboxStatus.EXITED:
            return
        try:
            with self._provider.open(record) as sandbox:
                self._naming.stop(record.id, sandbox)
                sandbox.destroy()
        except SandboxGone:  # nothing is left that could be given back
            self._naming.stop(record.id, None)

    def mark_exited(self, record: SandboxRecord) -> bool:
        """The namespace is gone: its endpoints become wishes, its dynamic addresses are free.

        False if the record has changed since: it ended already, or was adopted anew.

        :raises TeardownError: with all that failed; the next sweep tries again.
        """
        with self._locks.sandbox(record.id):
            current = self._state.sandbox(record.id)
            if current is None or current.status is SandboxStatus.EXITED:
                return False
            if current.identity != record.identity:
                return False
            self.park_all(current)
        self._events.publish("container", "die", record.id, {"name": record.name})
        return True

    # namespaces of our own; the caller holds the sandbox's lock

    def bring_up(self, record: SandboxRecord, ids: IdMap | None = None) -> SandboxRecord:
        """Make the namespace of a container that starts, and join its networks.

        ``ids``: it belongs to a user namespace.

        :raises CNMError: nothing is left behind but its wishes.
        """
        with Undo() as undo:
            identity = self._provider.create(record.key, ids)
            undo.push(self._provider.remove, record.key)
            record = replace(record, identity=identity, status=SandboxStatus.RUNNING)
            # running from here on: a sweep that comes by must not take it for a stopped one
            self._state.write(put=[record])
            undo.push(self.park_all, record)
            self._connections.attach_reserved(record)
        return record

    def keep(self, sandbox_id: SandboxID, pid: int) -> bool:
        """Find the namespace of a container that runs again by its process; False: no need.

        :raises SandboxGone: that process has it no more.
        """
        with self._locks.sandbox(sandbox_id):
            record = self._state.sandbox(sandbox_id)
            return record is not None and self._provider.keep(record, pid)

    def take_down(self, record: SandboxRecord) -> None:
        """Remove the namespace of a container that ended; its networks become wishes.

        :raises TeardownError: with all that failed; it can be tried again.
        """
        joined = [
            self._state.network(endpoint.network_id)
            for endpoint in self._state.endpoints_of_sandbox(record.id)
            if endpoint.phase is Phase.ACTIVE
        ]
        teardown = Teardown(f"stop {record.name}")
        with teardown.step():
            self.park_all(record)
        with teardown.step():
            self._provider.remove(record.key)
        teardown.finish()
        for network in joined:
            if network is not None:
                self._connections.tell_left(network, record)

    def strays(self, folder: str) -> list[SandboxKey]:
        """Namespaces of our own making that no running sandbox has."""
        used = {
            record.key
            for record in self._state.sandboxes()
            if record.status is SandboxStatus.RUNNING
        }
        return [key for key in self._provider.created(folder) if key not in used]

    def remove_stray(self, key: SandboxKey) -> None:
        """Remove what :meth:`strays` has found."""
        self._provider.remove(key)

    def park_all(self, record: SandboxRecord) -> None:
        """Mark as exited: its endpoints become wishes. The caller holds the sandbox's lock."""
        teardown = Teardown(f"container {record.name} exited")
        with teardown.step():
            self._stop_names(record)
        for endpoint in self._state.endpoints_of_sandbox(record.id):
            with teardown.step():
                self._park(record, endpoint)
        teardown.finish()
        self._state.write(put=[replace(record, status=SandboxStatus.EXITED)], durable=True)

    def _stop_names(self, record: SandboxRecord) -> None:
        """No resolver any more: its sockets would keep the namespace alive."""
        if not record.adopted:
            self._naming.stop(record.id, None)
            return
        try:
            with self._provider.open(record) as sandbox:
                self._naming.stop(record.id, sandbox)
        except SandboxGone:
            self._naming.stop(record.id, None)

    def _park(self, record: SandboxRecord, endpoint: Endpoint) -> None:
        if endpoint.phase is Phase.RESERVED:
            return
        with self._locks.network(endpoint.network_id):
            network = self._state.network(endpoint.network_id)
            if network is None:
                self._state.write(remove=[endpoint])
            else:
                self._connections.park(network, record, endpoint)
