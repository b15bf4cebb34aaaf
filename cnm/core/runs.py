"""One run of a container: stack, files and process up, in this order, and down again.

The order at a start: the sandbox is written as running (intent), namespace, endpoints,
files, process, and only then the container's own record. So whatever a killed daemon leaves
is seen by comparing the record with the runtime: see :mod:`cnm.core.recovery`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cnm import runtimeapi
from cnm.containerapi import (
    HOST_MODE,
    ContainerRecord,
    ContainerSettings,
    ContainerStatus,
    UsernsMode,
)
from cnm.core import merging
from cnm.core.containerfiles import ContainerFiles
from cnm.core.etc import Etc
from cnm.core.naming import Naming
from cnm.core.publishing import Publishing
from cnm.core.sandboxes import Sandboxes
from cnm.core.state import State
from cnm.errors import Conflict, InvalidParameter, NotFound
from cnm.idmap import IdMap
from cnm.imageapi import HOST_IMAGE, Images
from cnm.runtimeapi import (
    ContainerRuntime,
    ContainerSpec,
    Execs,
    LogOptions,
    ProcessID,
    RuntimeWatch,
    Streams,
)
from cnm.types import SandboxID, SandboxKey, SandboxStatus
from cnm.undo import Undo


@dataclass(frozen=True, slots=True)
class Machinery:
    """The parts that containers need, as the wiring has them."""

    runtime: ContainerRuntime
    streams: Streams
    execs: Execs
    watch: RuntimeWatch
    images: Images
    remove_tree: Callable[[Path], None]
    settings: ContainerSettings


class Runs:
    """Starts and ends runs. For all methods the caller holds the container's lock."""

    def __init__(
        self,
        state: State,
        sandboxes: Sandboxes,
        machinery: Machinery,
        files: ContainerFiles,
        naming: Naming,
        publishing: Publishing,
    ) -> None:
        self._state = state
        self._sandboxes = sandboxes
        self._publishing = publishing
        self._machinery = machinery
        self._runtime = machinery.runtime
        self.files = files
        self._registered: dict[str, ContainerSpec] = {}
        self.etc = Etc(state, files, machinery.settings, naming.has_resolver, naming.leased_search)

    def key(self, container_id: str) -> SandboxKey:
        """Where a container's own network namespace is."""
        return SandboxKey(str(self._machinery.settings.namespaces / container_id))

    # what the runtime is told

    def register(self, record: ContainerRecord) -> None:
        """Have the runtime know the container, so that it can be attached to and started.

        :raises InvalidParameter: the runtime refuses a part of it.
        :raises NotFound: its image has gone.
        """
        spec = self._spec(record)
        if self._registered.get(record.id) == spec:
            return
        self.forget(record)
        self._runtime.create(spec)
        self._registered[record.id] = spec

    def forget(self, record: ContainerRecord) -> None:
        """Kill what runs and have the runtime forget it. Gone is success."""
        self._registered.pop(record.id, None)
        self._runtime.destroy(ProcessID(record.id))

    def _spec(self, record: ContainerRecord) -> ContainerSpec:
        wish, images = record.definition, self._machinery.images
        lower = images.lower_directories(record.image_id)
        taken = {bind.destination for bind in wish.binds}
        taken |= {item.destination for item in wish.tmpfs}
        owner = self.etc.files_of(record)
        limits = wish.log
        log_options = LogOptions(
            str(self.files.log(record.id)), limits.max_size_bytes, limits.max_files
        )
        return ContainerSpec(
            ProcessID(record.id),
            merging.process(wish.command, self.etc.link_variables(record)),
            self.files.root(record.id, lower, read_only=wish.read_only),
            hostname=self.etc.hostname(record),
            domainname=wish.domainname,
            network_namespace=self._namespace(record),
            own_network=record.own_stack,
            ids=self.ids(record),
            binds=(
                *(item for item in self.files.binds(owner) if item.destination not in taken),
                *wish.binds,
            ),
            tmpfs=wish.tmpfs,
            hidden_paths=self._machinery.settings.hidden_paths if wish.image == HOST_IMAGE else (),
            security=wish.security,
            limits=wish.limits,
            resource_limits=wish.resource_limits,
            sysctls=wish.sysctls,
            log=log_options if limits.enabled else None,
            init=wish.init,
            shm_size_bytes=wish.shm_size_bytes,
            oom_score_adj=wish.oom_score_adj,
        )

    def ids(self, record: ContainerRecord) -> IdMap | None:
        """Whose users it has; None: the host's. Who shares another's stack has that one's.

        :raises InvalidParameter: something else it asks for cannot be had in a user namespace.
        """
        settings, wish = self._machinery.settings, record.definition
        by_default = wish.userns is UsernsMode.DEFAULT and settings.remapped
        if wish.userns is not UsernsMode.PRIVATE and not by_default:
            return None
        if wish.security.privileged:
            raise InvalidParameter(
                "privileged mode is incompatible with user namespaces.  You must run the container "
                "in the host namespace when running privileged mode"
            )
        if wish.network_mode == HOST_MODE:
            raise InvalidParameter(
                "cannot share the host's network namespace when user namespaces are enabled"
            )
        return settings.ids if record.shares_with is None else self._ids_of(record.shares_with)

    def _ids_of(self, container_id: SandboxID) -> IdMap:
        """The container's whose network namespace is shared: its user namespace comes with it."""
        partner = self._state.container(container_id)
        found: IdMap | None = None
        if partner is not None:
            running = partner.status is ContainerStatus.RUNNING
            found = partner.ids if running else self.ids(partner)
        if found is None:
            raise InvalidParameter(
                f"cannot join the network namespace of container {container_id}: it has no user "
                "namespace of its own; use --userns host"
            )
        return found

    def _namespace(self, record: ContainerRecord) -> str:
        """Path of the network namespace; empty: the daemon's own."""
        if record.own_stack:
            return self.key(record.id)
        if record.shares_with is None:
            return ""
        target = self._state.container(record.shares_with)
        if target is not None and target.shares_with is not None:
            return self._namespace(target)
        stack = self._state.sandbox(record.shares_with)
        return stack.key if stack is not None else ""

    # up

    def up(self, record: ContainerRecord) -> ContainerRecord:
        """Start it; the record as it is now, written.

        :raises StartFailed: the command cannot be run.
        :raises CNMError: nothing is left running.
        """
        self._refuse_dead_partner(record)
        stack = self._state.sandbox(record.id)
        if stack is not None:
            self._publishing.check(stack, stack.publish)
        with Undo() as undo:
            if record.own_stack and stack is not None:
                stack = self._sandboxes.bring_up(stack, self.ids(record))
                undo.push(self._sandboxes.take_down, stack)
            self.files.make(record.id)
            self.etc.prepare(record)
            self.register(record)
            status = self._start(record)
            undo.push(self.forget, record)
            record = replace(
                record,
                status=ContainerStatus.RUNNING,
                pid=status.pid,
                exit_code=0,
                error="",
                oom_killed=False,
                started_ns=status.started_ns,
                finished_ns=0,
                stopped_by_user=False,
                ids=self.ids(record),
            )
            self._state.write(put=[record])
        return record

    def _start(self, record: ContainerRecord) -> runtimeapi.ContainerStatus:
        try:
            return self._runtime.start(ProcessID(record.id))
        except NotFound:  # its supervisor was lost, and what it knew
            self._registered.pop(record.id, None)
            self.register(record)
            return self._runtime.start(ProcessID(record.id))

    def _refuse_dead_partner(self, record: ContainerRecord) -> None:
        if record.shares_with is None:
            return
        partner = self._state.container(record.shares_with)
        stack = self._state.sandbox(record.shares_with)
        if partner is None and stack is None:
            raise NotFound(f"No such container: {record.shares_with}")
        running = (
            partner.status is ContainerStatus.RUNNING
            if partner is not None
            else stack is not None and stack.status is SandboxStatus.RUNNING
        )
        if not running:
            raise Conflict(
                f"cannot join network namespace of a non running container: {record.shares_with}"
            )

    # down

    def down(
        self,
        record: ContainerRecord,
        *,
        exit_code: int,
        oom_killed: bool = False,
        finished_ns: int = 0,
    ) -> ContainerRecord:
        """Take down what a run that ended leaves; the record as it is now, written.

        :raises TeardownError: with all that failed; the next sweep tries again.
        """
        record = replace(
            record,
            status=ContainerStatus.EXITED,
            pid=0,
            exit_code=exit_code,
            oom_killed=oom_killed,
            finished_ns=finished_ns,
        )
        self._state.write(put=[record])
        self.lower(record)
        return record

    def lowered(self, record: ContainerRecord) -> bool:
        """Whether its network stack is down, or there is none."""
        stack = self._state.sandbox(record.id)
        return stack is None or stack.status is not SandboxStatus.RUNNING

    def lower(self, record: ContainerRecord) -> None:
        """Take down the network stack, if there is one. :raises TeardownError:"""
        stack = self._state.sandbox(record.id)
        if stack is not None and stack.status is SandboxStatus.RUNNING:
            self._sandboxes.take_down(stack)
