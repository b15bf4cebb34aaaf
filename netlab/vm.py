"""``netlab vm -- COMMAND``: runs a command on a second kernel, Debian's own, in a VM.

The VM has this machine's own files: all of them can be read, and written for as long as the VM
lives. The folder that the command is started in is shared, so what is written there stays.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cnm.netlab.errors import VMError
from cnm.netlab.vmaccel import kvm_works
from cnm.netlab.vmboot import BOOT_TIMEOUT_S, Machine, VirtualMachine, usual_cpus
from cnm.netlab.vmguest import STDERR, STDOUT, Job
from cnm.netlab.vmkernel import Kernel, cache_folder, ensure_kernel, kernel_in

if TYPE_CHECKING:
    from cnm.netlab.main import Subparsers

TIMED_OUT = 124  # as timeout(1)
OWN_FAILURE = 125  # as docker run: nothing is known of the command's own status
_POLL_S = 0.05
_DEFAULT_TIMEOUT_S = 600.0
_EPILOG = """exit status: that of the command; 124 if it took too long; 125 if the VM failed.

examples:
  netlab vm -- uname -r
  netlab vm -- modprobe -v ipvlan
  netlab vm --timeout 60 --memory 4G -- .venv/bin/pytest tests/kernel -k limits
  netlab vm --update -- true"""


def add(subparsers: Subparsers) -> None:
    """The parser of ``netlab vm``."""
    parser = subparsers.add_parser(
        "vm",
        help="Run a command on the second kernel",
        description="Run a command on Debian's kernel in a VM, as root, with this machine's files."
        " Files stay if they are written below the shared folder; all else is forgotten."
        " There is no network and no input.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_arguments(parser)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cpus", type=int, help="processors (2 with KVM, 1 under emulation)")
    parser.add_argument(
        "--memory", type=memory_mib, default="2G", metavar="SIZE", help="512M, 2G (%(default)s)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=_DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help="end the command after that long; booting is apart (%(default).0f)",
    )
    parser.add_argument(
        "--boot-timeout",
        type=float,
        default=BOOT_TIMEOUT_S,
        metavar="SECONDS",
        help="give up a boot after that long (%(default).0f)",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(), help="what is shared (the current folder)"
    )
    parser.add_argument(
        "--kernel", type=Path, metavar="DIR", help="an unpacked kernel instead of Debian's"
    )
    parser.add_argument("--no-kvm", action="store_true", help="emulate even where KVM works")
    parser.add_argument("--update", action="store_true", help="fetch the newest kernel first")
    parser.add_argument("argv", nargs="+", metavar="COMMAND", help="after --")


def memory_mib(text: str) -> int:
    """``512M`` or ``2G`` to MiB."""
    number, unit = text[:-1], text[-1:].upper()
    factor = {"M": 1, "G": 1024}.get(unit)
    if factor is None or not number.isdigit() or int(number) * factor < 256:
        raise argparse.ArgumentTypeError(f"{text}: write 512M or 2G, at least 256M")
    return int(number) * factor


def run(args: argparse.Namespace) -> int:
    """The command's exit status, or one of ours."""
    try:
        kernel = chosen_kernel(args.kernel, update=args.update)
        kvm = not args.no_kvm and kvm_works(kernel, cache_folder())
        machine = Machine(args.cpus or usual_cpus(kvm), args.memory, kvm)
        with VirtualMachine(kernel, machine, _job(args), args.boot_timeout) as vm:
            return follow(vm)
    except VMError as error:
        sys.stdout.flush()
        sys.stderr.write(f"netlab vm: {error}\n")
        return OWN_FAILURE


def chosen_kernel(given: Path | None, *, update: bool = False) -> Kernel:
    """The given one, or Debian's."""
    return kernel_in(given) if given else ensure_kernel(cache_folder(), tell, update=update)


def chosen_machine() -> tuple[Kernel, Machine]:
    """Debian's kernel and the hardware that is had without options."""
    kernel = chosen_kernel(None)
    kvm = kvm_works(kernel, cache_folder())
    return kernel, Machine(usual_cpus(kvm), kvm=kvm)


def tell(text: str) -> None:
    """Progress, apart from what the command says."""
    sys.stderr.write(f"netlab vm: {text}\n")
    sys.stderr.flush()


def _job(args: argparse.Namespace) -> Job:
    folder = args.folder.resolve()
    if not folder.is_dir():
        raise VMError(f"{folder} is no folder")
    if folder == Path("/"):
        raise VMError("/ cannot be shared for writing: name a folder with --folder")
    if args.timeout <= 0 or (args.cpus is not None and args.cpus < 1):
        raise VMError("--cpus and --timeout must be above 0")
    return Job(tuple(args.argv), folder, Path.cwd(), dict(os.environ), args.timeout)


def follow(vm: VirtualMachine) -> int:
    """Hand on what the command says until it ends; its status.

    :raises VMError: the VM failed.
    """
    streams = (
        (vm.results / STDOUT, sys.stdout.buffer),
        (vm.results / STDERR, sys.stderr.buffer),
    )
    with (
        streams[0][0].open("rb") as out,
        streams[1][0].open("rb") as err,
    ):
        pairs = ((out, streams[0][1]), (err, streams[1][1]))
        while (status := vm.status()) is None:
            _relay(pairs)
            time.sleep(_POLL_S)
        _relay(pairs)
    if vm.timed_out:
        tell(f"the command did not end within {vm.job.timeout_s:g} s")
        return TIMED_OUT
    return status


def _relay(pairs: Sequence[tuple[BinaryIO, BinaryIO]]) -> None:
    for source, target in pairs:
        while chunk := source.read(1 << 16):
            target.write(chunk)
            target.flush()
