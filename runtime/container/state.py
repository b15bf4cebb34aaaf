"""What a supervisor leaves on disk for the next one: ``<exec root>/containers/<id>/``.

``plan.json`` is written once, ``state.json`` at each change, whole, by rename. Nothing is
synced: a crash of the machine ends the containers as well, which the boot id tells.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from cnm import codec
from cnm.errors import StoreError
from cnm.runtime.container.plan import ContainerPlan, Saved
from cnm.runtime.container.standard import Pipes
from cnm.runtime.kernel.resident import Place
from cnm.runtimeapi import ProcessSpec


class Places:
    """The directories and files of one exec root."""

    def __init__(self, exec_root: str) -> None:
        self.exec_root = os.path.abspath(exec_root)
        self.containers = os.path.join(self.exec_root, "containers")
        self.resident = Place(self.exec_root, "supervisor")
        self.socket = self.resident.socket
        self.keeper_socket = os.path.join(self.exec_root, "keeper.sock")

    def container(self, container_id: str) -> str:
        return os.path.join(self.containers, container_id)

    def pipes(self, container_id: str, process: ProcessSpec, exec_id: str = "") -> Pipes:
        """Where the FIFOs of a container, or of an exec in it, lie."""
        prefix = os.path.join(self.container(container_id), f"{exec_id}." if exec_id else "")
        return Pipes(
            f"{prefix}stdin" if process.open_stdin else "", f"{prefix}stdout", f"{prefix}stderr"
        )

    @staticmethod
    def remove_pipes(pipes: Pipes) -> None:
        """Remove FIFOs; gone is fine."""
        for path in (pipes.stdin, pipes.stdout, pipes.stderr):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path or pipes.stdout)

    def make(self) -> None:
        os.makedirs(self.exec_root, exist_ok=True)
        os.makedirs(self.containers, 0o700, exist_ok=True)

    def write_plan(self, plan: ContainerPlan) -> None:
        os.makedirs(self.container(plan.spec.id), 0o700, exist_ok=True)
        self._write(plan.spec.id, "plan.json", codec.dumps(plan))

    def write_state(self, saved: Saved) -> None:
        self._write(saved.id, "state.json", codec.dumps(saved))

    def _write(self, container_id: str, name: str, text: str) -> None:
        path = os.path.join(self.container(container_id), name)
        with open(f"{path}.new", "w", encoding="utf-8", opener=_private) as file:
            file.write(text)
        os.rename(f"{path}.new", path)

    def read(self) -> Iterator[tuple[ContainerPlan, Saved]]:
        """Every container with a whole plan; others were being created and are removed."""
        for container_id in self.ids():
            plan, saved = self.read_plan(container_id), self._read_state(container_id)
            if plan is None or saved is None:
                self.remove(container_id)
            else:
                yield plan, saved

    def read_plan(self, container_id: str) -> ContainerPlan | None:
        """The plan of a container; None if there is none, or none that can be read."""
        try:
            text = _text(os.path.join(self.container(container_id), "plan.json"))
            return codec.loads(ContainerPlan, text)
        except (FileNotFoundError, NotADirectoryError, StoreError):
            return None

    def _read_state(self, container_id: str) -> Saved | None:
        try:
            text = _text(os.path.join(self.container(container_id), "state.json"))
            return codec.loads(Saved, text)
        except (FileNotFoundError, NotADirectoryError, StoreError):
            return None

    def ids(self) -> list[str]:
        """Containers that have a directory."""
        try:
            return sorted(os.listdir(self.containers))
        except FileNotFoundError:
            return []

    def remove(self, container_id: str) -> None:
        """Forget a container; gone is fine."""
        shutil.rmtree(self.container(container_id), ignore_errors=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def boot_id() -> str:
    """Changes with each boot of the machine."""
    return _text("/proc/sys/kernel/random/boot_id").strip()


def start_time(pid: int) -> int:
    """Clock ticks from boot to the start of a process; 0 if it is gone or a zombie."""
    try:
        fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])  # proc(5): state is the third, this the 22nd
