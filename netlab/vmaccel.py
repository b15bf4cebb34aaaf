"""Whether KVM works here, found out by booting with it.

``/dev/kvm`` being there says little: within some clouds' VMs it can be opened and a guest
stops in the middle of its boot. So the kernel itself is booted with KVM, with no root file
system: it must get as far as to panic about that, which takes 2 s. The answer is kept until
the machine is booted again or has another QEMU.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

from cnm.netlab.vmkernel import Kernel

QEMU = "qemu-system-x86_64"
_PROBE_TIMEOUT_S = 20.0
_PANIC = b"Kernel panic - not syncing: VFS"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def kvm_works(kernel: Kernel, folder: Path) -> bool:
    """Probed once; the answer lies in ``folder``."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    memory = folder / "kvm.json"
    machine = f"{_BOOT_ID.read_text().strip()} {_qemu_version()}"
    known = _remembered(memory)
    if known.get("machine") != machine:
        known = {"machine": machine, "works": _boots_with_kvm(kernel)}
        _remember(memory, known)
    return bool(known["works"])


def _qemu_version() -> str:
    done = subprocess.run([QEMU, "--version"], capture_output=True, text=True, timeout=20)
    return done.stdout.partition("\n")[0]


def _remembered(memory: Path) -> dict[str, object]:
    try:
        return dict(json.loads(memory.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _remember(memory: Path, known: dict[str, object]) -> None:
    """Whole or not at all, whoever else does the same."""
    memory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False) as file:
        json.dump(known, file)
    os.replace(file.name, memory)


def _boots_with_kvm(kernel: Kernel) -> bool:
    with tempfile.TemporaryFile() as console:
        command = [
            *("setpriv", "--pdeathsig", "KILL", QEMU),
            *("-machine", "q35,accel=kvm", "-cpu", "host", "-m", "512", "-nodefaults"),
            *("-display", "none", "-serial", "stdio", "-no-reboot"),
            *("-kernel", str(kernel.boot_image), "-append", "console=ttyS0 panic=-1"),
        ]
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.DEVNULL,
                timeout=_PROBE_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            return False
        console.seek(0)
        return _PANIC in console.read()
