"""A runtime and images made of dictionaries, for tests of pure logic.

They keep the contracts of ``cnm.runtimeapi`` and ``cnm.imageapi``; what runs ends when a test
says so, and a start fails when a test has armed it.
"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cnm.containerapi import ContainerSettings
from cnm.core.runs import Machinery
from cnm.errors import Conflict, NotFound, StartFailed
from cnm.idmap import IdMap, IdRange
from cnm.imageapi import (
    ByteSource,
    ImageConfig,
    ImageID,
    ImageRemoval,
    ImageSummary,
    LoadedImage,
    Users,
    no_such_image,
)
from cnm.runtimeapi import (
    ContainerSpec,
    ContainerState,
    ContainerStatus,
    ExecSpec,
    ExecStatus,
    OrphanContainer,
    ProcessID,
    RuntimeEvent,
    WaitCondition,
)

IDS = IdMap((IdRange(0, 700_000, 65_536),), (IdRange(0, 800_000, 65_536),))


@dataclass
class FakeRuntime:
    """Containers that run only in our imagination, and outlive the core."""

    step: Callable[[str], None]
    specs: dict[str, ContainerSpec] = field(default_factory=dict)
    states: dict[str, ContainerStatus] = field(default_factory=dict)
    execs: dict[str, ExecStatus] = field(default_factory=dict)
    signals: list[tuple[str, int]] = field(default_factory=list)
    refuse: StartFailed | None = None
    ignores: set[int] = field(default_factory=set)  # signals that do not end a process
    listeners: list[Callable[[RuntimeEvent], None]] = field(default_factory=list)

    def create(self, spec: ContainerSpec) -> None:
        self.step("runtime create")
        if spec.id in self.specs:
            raise Conflict(f"{spec.id} is in use")
        self.specs[spec.id] = spec
        self.states[spec.id] = ContainerStatus(spec.id)

    def start(self, container_id: ProcessID) -> ContainerStatus:
        self.step("runtime start")
        if self.refuse is not None:
            raise self.refuse
        if self.status(container_id).state is ContainerState.RUNNING:
            raise Conflict("it runs")
        self.states[container_id] = ContainerStatus(
            container_id, ContainerState.RUNNING, pid=4242, started_ns=time.time_ns()
        )
        return self.states[container_id]

    def exit(self, container_id: str, code: int = 0, *, tell: bool = True) -> None:
        """The process ends."""
        status = self.states[container_id]
        self.states[container_id] = replace(
            status,
            state=ContainerState.EXITED,
            pid=0,
            exit_code=code,
            finished_ns=time.time_ns(),
        )
        if tell:
            process = ProcessID(container_id)
            for listener in list(self.listeners):
                listener(RuntimeEvent("exit", process, process, code))

    def kill(self, process_id: ProcessID, signal: int) -> None:
        if self.status(process_id).state is not ContainerState.RUNNING:
            raise Conflict(f"container {process_id} is not running")
        self.signals.append((process_id, signal))
        if signal not in self.ignores:
            self.exit(process_id, 128 + signal, tell=False)

    def stop(self, container_id: ProcessID, signal: int, timeout_s: float) -> ContainerStatus:
        for number in (signal, 9):
            if self.status(container_id).state is ContainerState.RUNNING:
                self.kill(container_id, number)
        return self.status(container_id)

    def wait(
        self,
        process_id: ProcessID,
        condition: WaitCondition = WaitCondition.NOT_RUNNING,
        timeout_s: float | None = None,
        established: Callable[[], None] | None = None,
    ) -> int:
        return self.status(process_id).exit_code

    def status(self, container_id: ProcessID) -> ContainerStatus:
        if container_id not in self.states:
            raise NotFound(f"No such container: {container_id}")
        return self.states[container_id]

    def containers(self) -> Collection[ContainerStatus]:
        return list(self.states.values())

    def destroy(self, container_id: ProcessID) -> None:
        self.specs.pop(container_id, None)
        self.states.pop(container_id, None)

    # streams

    def attach(
        self, process_id: ProcessID, *, stdin: bool, stdout: bool, stderr: bool
    ) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.close()
        return theirs

    def resize(self, process_id: ProcessID, rows: int, columns: int) -> None:
        self.step(f"resize {rows}x{columns}")

    # execs

    def exec_create(self, spec: ExecSpec) -> None:
        self.execs[spec.id] = ExecStatus(spec.id, spec.container_id)

    def exec_start(self, exec_id: ProcessID) -> ExecStatus:
        if self.refuse is not None:
            raise self.refuse
        self.execs[exec_id] = replace(self.execs[exec_id], pid=7, running=True)
        return self.execs[exec_id]

    def exec_status(self, exec_id: ProcessID) -> ExecStatus:
        if exec_id not in self.execs:
            raise NotFound("No such exec instance")
        return self.execs[exec_id]

    # watching

    def processes(self, container_id: ProcessID) -> Collection[int]:
        return [4242]

    def watch(self, changed: Callable[[RuntimeEvent], None]) -> Callable[[], None]:
        self.listeners.append(changed)
        return lambda: self.listeners.remove(changed)

    def orphans(self) -> Collection[OrphanContainer]:
        return []

    def remove_orphan(self, orphan: OrphanContainer) -> None:
        raise AssertionError("there are none")


@dataclass
class FakeImages:
    """Images by name."""

    configs: dict[str, ImageConfig] = field(default_factory=dict)

    def summaries(self) -> Sequence[ImageSummary]:
        return [ImageSummary(ImageID(f"sha256:{name}"), (name,), 0, 0) for name in self.configs]

    def find(self, name: str) -> ImageID:
        if name not in self.configs:
            raise NotFound(no_such_image(name))
        return ImageID(f"sha256:{name}")

    def config(self, image_id: ImageID) -> ImageConfig:
        return self.configs[image_id.removeprefix("sha256:")]

    def lower_directories(self, image_id: ImageID) -> list[str]:
        self.config(image_id)
        return [f"/images/{image_id}"]

    def import_tar(
        self, source: ByteSource, name: str = "", *, changes: Sequence[str] = (), message: str = ""
    ) -> ImageID:
        self.configs[name] = ImageConfig()
        return self.find(name)

    def load(self, source: ByteSource) -> Sequence[LoadedImage]:
        return []

    def tag(self, name: str, target: str) -> None:
        self.configs[target] = self.config(self.find(name))

    def remove(self, name: str, users: Users, *, force: bool = False) -> ImageRemoval:
        image_id = self.find(name)
        if users(image_id):
            raise Conflict("in use")
        del self.configs[name]
        return ImageRemoval((name,), (image_id,))


def machinery(
    folder: Path, runtime: FakeRuntime, images: FakeImages, *, remapped: bool = False
) -> Machinery:
    """These two as the core wants them, with files in ``folder``."""
    settings = ContainerSettings(
        folder / "root",
        folder / "netns",
        hidden_paths=(str(folder / "root"),),
        ids=IDS,
        remapped=remapped,
    )
    return Machinery(runtime, runtime, runtime, runtime, images, shutil.rmtree, settings)
