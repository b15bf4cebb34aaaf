"""One run of the VM: QEMU as virtme-ng composes it, watched, and gone whatever happens.

virtme-ng makes the initramfs and QEMU's command line, and is not there while the VM runs:
QEMU is our own child. The kernel kills it when we die (``PR_SET_PDEATHSIG``, which belongs to
the thread that starts it). A shell in a session of its own waits for the end of a pipe that
only we hold, and then removes the folder of the run; so nothing is left behind after
``kill -9`` either.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cnm.netlab import vmguest
from cnm.netlab.errors import VMError
from cnm.netlab.vmguest import Job
from cnm.netlab.vminitramfs import append_program
from cnm.netlab.vmkernel import Kernel

BOOT_TIMEOUT_S = 240.0  # alone on two cores 10 s under emulation
# For what comes after the command's own time-out: ending it, and writing files back.
_LATE_S = 60.0
_COMPOSE_TIMEOUT_S = 60
_CONSOLE_LINES = 60  # a panic with its trace
_KERNEL_OPTIONS = (
    "loglevel=4",
    "nokaslr",
    "mitigations=off",  # retpolines cost much under emulation, and there is nothing to protect
    "apparmor=0",
    "audit=0",
    "cgroup_no_v1=all",
    f"rdinit=/{vmguest.INIT}",
)
# The emulated processor is told to have no fast string instructions: emulated, `rep stosb`
# clears a page six times slower than a plain loop.
_EMULATED_CPU = "max,-erms,-fsrm"
_JANITOR = "while read -r _; do :; done; n=0; until rm -rf -- \"$0\" || [ $n = 50 ]; do n=$((n+1)); sleep 0.1; done"  # fmt: skip # noqa: E501


@dataclass(frozen=True, slots=True)
class Machine:
    """The hardware."""

    cpus: int = 1
    memory_mib: int = 2048
    kvm: bool = False


def usual_cpus(kvm: bool) -> int:
    """Two emulated ones cost twice the time of one: a changed page table stops both."""
    return 2 if kvm else 1


class VirtualMachine:
    """A VM that runs one job; a context manager that ends it.

    :raises VMError: on entering: a program is missing.
    """

    def __init__(
        self, kernel: Kernel, machine: Machine, job: Job, boot_timeout_s: float = BOOT_TIMEOUT_S
    ) -> None:
        self._kernel = kernel
        self._machine = machine
        self.job = job
        self.results = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._janitor: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._boot_timeout_s = boot_timeout_s

    def __enter__(self) -> Self:
        self.results = Path(tempfile.mkdtemp(prefix="netlab-vm-"))
        self._janitor = _start_janitor(self.results)
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        self._write(vmguest.MAIN_SCRIPT, vmguest.main_script(self.job))
        self._write(vmguest.COMMAND_SCRIPT, vmguest.command_script(self.job))
        for name, text in {vmguest.STDOUT: "", vmguest.STDERR: "", **self.job.files}.items():
            self._write(name, text)
        command = compose(self._kernel, self._machine, self.job, self.results)
        with (self.results / vmguest.CONSOLE).open("wb") as console:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd="/",
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        self._started = time.monotonic()

    def _write(self, name: str, text: str) -> None:
        (self.results / name).write_text(text, encoding="utf-8", errors="surrogateescape")

    def status(self) -> int | None:
        """The command's exit status once it has ended; ``None`` while it runs.

        :raises VMError: it did not boot, died, or the time is over.
        """
        with suppress(FileNotFoundError):
            return int((self.results / vmguest.STATUS).read_text())
        assert self._process is not None, "not started"
        if self._process.poll() is not None:
            if (self.results / vmguest.STATUS).exists():
                return self.status()
            raise VMError(f"{self._how_far()} and ended; {self._last_words()}")
        waited = time.monotonic() - self._started
        if not self.booted and waited > self._boot_timeout_s:
            raise VMError(f"{self._how_far()} within {waited:.0f} s; {self._last_words()}")
        if waited > self._boot_timeout_s + self.job.timeout_s + _LATE_S:
            raise VMError(f"the second kernel does not answer any more; {self._last_words()}")
        return None

    @property
    def booted(self) -> bool:
        """Whether the command has been started."""
        return (self.results / vmguest.BOOTED).exists()

    @property
    def timed_out(self) -> bool:
        """Whether the command was ended because it took too long."""
        return (self.results / vmguest.LATE).exists()

    def _how_far(self) -> str:
        return "the second kernel " + ("booted" if self.booted else "did not boot")

    def _last_words(self) -> str:
        said = self._tail(vmguest.CONSOLE) + self._tail(vmguest.SETUP_LOG)
        return "\n".join(["the end of its console:", *said]) if said else "its console is empty"

    def _tail(self, name: str) -> list[str]:
        try:
            text = (self.results / name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        return [line.rstrip() for line in text.splitlines() if line.strip()][-_CONSOLE_LINES:]

    def close(self) -> None:
        """End the VM and remove its folder. Again is fine."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._janitor is not None:
            assert self._janitor.stdin is not None
            self._janitor.stdin.close()
            self._janitor.wait()
            self._janitor = None


def _start_janitor(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["sh", "-c", _JANITOR, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def compose(kernel: Kernel, machine: Machine, job: Job, results: Path) -> list[str]:
    """QEMU's command line, as virtme-ng makes it for this kernel on this machine.

    :raises VMError: virtme-ng is not installed or refuses.
    """
    initramfs = results / "initramfs"
    options = [
        *("--kimg", str(kernel.image), "--mods", "auto", "--force-9p", "--user", "root"),
        *("--cpus", str(machine.cpus), "--memory", f"{machine.memory_mib}M"),
        *("--rwdir", f"/run/results={results}", "--rwdir", f"/run/folder={job.folder}"),
        *("--overlay-rwdir", "/run"),  # for the module that it brings
        *("--script-sh", "true", "--show-boot-console", "--save-initramfs", str(initramfs)),
        *("--dry-run", "--show-command"),
        *([] if machine.kvm else ["--disable-kvm"]),
        *(word for option in _KERNEL_OPTIONS for word in ("--kopt", option)),
        *([] if machine.kvm else ["--qemu-opts", "-cpu", _EMULATED_CPU]),
    ]
    command = shlex.split(_virtme_run(options, results).strip().splitlines()[-1])
    command[command.index("-kernel") + 1] = str(kernel.boot_image)
    append_program(initramfs, vmguest.INIT, vmguest.init_script(job, kernel))
    return command


def _virtme_run(options: list[str], results: Path) -> str:
    program = _installed_program("virtme-run")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(
        [program, *options],
        env={**os.environ, "PATH": path, "TMPDIR": str(results)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_COMPOSE_TIMEOUT_S,
    )
    if done.returncode or not done.stdout.strip():
        raise VMError(f"virtme-ng cannot make the VM: {done.stderr.strip() or 'no output'}")
    return done.stdout


def _installed_program(name: str) -> str:
    """Beside our interpreter, where pip puts it, or on the path."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise VMError(f"{name} is not installed: pip install 'cnm-net[lab]' brings virtme-ng")
    return found


def ended_by(status: int) -> str:
    """What a status above 128 means, in words; empty for others."""
    with suppress(ValueError):
        return signal.Signals(status - 128).name if status > 128 else ""
    return ""
