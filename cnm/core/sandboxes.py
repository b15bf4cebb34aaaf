"""Containers as the core sees them: adopted namespaces now, the runtime's later."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace

from cnm.core.connect import Connections
from cnm.core.events import Events
from cnm.core.locks import Locks
from cnm.core.state import State
from cnm.errors import Conflict, InvalidParameter, NotFound, SandboxGone
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

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


class Sandboxes:
    """The verbs on sandboxes."""

    def __init__(
        self,
        state: State,
        locks: Locks,
        connections: Connections,
        events: Events,
        provider: SandboxProvider,
    ) -> None:
        self._state = state
        self._locks = locks
        self._connections = connections
        self._events = events
        self._provider = provider

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
        if not _NAME.fullmatch(name):
            raise InvalidParameter(
                f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )
        if bool(netns) == bool(pid):
            raise InvalidParameter("name one namespace: either --netns PATH or --pid PID")
        key = SandboxKey(netns or f"/proc/{pid}/ns/net")
        with self._locks.name(f"container {name}"):
            identity, loopback_up = self._provider.identify(key)
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
            )
            with self._locks.sandbox(record.id), Undo() as undo:
                self._state.write(put=[record], durable=True)
                if former is not None:
                    undo.push(self._park_all, record)
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
        if former is not None and former.status is SandboxStatus.RUNNING and self._alive(former):
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container '
                f'"{former.id}". You have to remove (or rename) that container to be able to '
                "reuse that name."
            )
        if former is not None and former.status is SandboxStatus.RUNNING:
            self.mark_exited(former)
        for other in self._state.sandboxes():
            if other.identity == identity and other.status is SandboxStatus.RUNNING:
                raise Conflict(f'namespace {key} is container "{other.name}" already')

    def _alive(self, record: SandboxRecord) -> bool:
        try:
            with self._provider.open(record):
                return True
        except SandboxGone:
            return False

    def release(self, reference: str) -> SandboxRecord:
        """Take an adopted container off its networks and give the namespace back as it was.

        :raises NotFound: no such container.
        :raises TeardownError: with all that failed; it can be tried again.
        """
        record = self._state.find_sandbox(reference)
        with self._locks.sandbox(record.id):
            if self._state.sandbox(record.id) is None:
                raise NotFound(f"No such container: {reference}")
            teardown = Teardown(f"release {record.name}")
            for endpoint in self._state.endpoints_of_sandbox(record.id):
                with teardown.step():
                    self._detach(record, endpoint)
            with teardown.step():
                self._give_back(record)
            teardown.finish()
            self._state.write(remove=[record], durable=True)
        self._events.publish("container", "destroy", record.id, {"name": record.name})
        return record

    def _detach(self, record: SandboxRecord, endpoint: Endpoint) -> None:
        with self._locks.network(endpoint.network_id):
            network = self._state.network(endpoint.network_id)
            if network is None:
                self._state.write(remove=[endpoint])
            else:
                self._connections.detach(network, record, endpoint)

    def _give_back(self, record: SandboxRecord) -> None:
        if record.status is SandboxStatus.EXITED:
            return
        try:
            with self._provider.open(record) as sandbox:
                sandbox.destroy()
        except SandboxGone:
            return  # nothing is left that could be given back

    def mark_exited(self, record: SandboxRecord) -> None:
        """The namespace is gone: its endpoints become wishes, its dynamic addresses are free.

        :raises TeardownError: with all that failed; the next sweep tries again.
        """
        with self._locks.sandbox(record.id):
            current = self._state.sandbox(record.id)
            if current is None or current.status is SandboxStatus.EXITED:
                return
            self._park_all(current)
        self._events.publish("container", "die", record.id, {"name": record.name})

    def _park_all(self, record: SandboxRecord) -> None:
        """Mark as exited. The caller holds the sandbox's lock."""
        teardown = Teardown(f"container {record.name} exited")
        for endpoint in self._state.endpoints_of_sandbox(record.id):
            with teardown.step():
                self._park(record, endpoint)
        teardown.finish()
        self._state.write(put=[replace(record, status=SandboxStatus.EXITED)], durable=True)

    def _park(self, record: SandboxRecord, endpoint: Endpoint) -> None:
        if endpoint.phase is Phase.RESERVED:
            return
        with self._locks.network(endpoint.network_id):
            network = self._state.network(endpoint.network_id)
            if network is None:
                self._state.write(remove=[endpoint])
            else:
                self._connections.park(network, record, endpoint)
