"""The tests of one session that run on the second kernel: one boot, one pytest in it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cnm.netlab.errors import VMError
from cnm.netlab.vm import chosen_machine
from cnm.netlab.vmboot import VirtualMachine
from cnm.netlab.vmguest import INSIDE, STDERR, STDOUT, Job

REPORTS, TESTS = "reports", "tests"
# Alone on the machine it takes about six minutes; on a busy one several times that.
_TIMEOUT_S = 1800
_SLOW_TIMEOUT_S = 6 * 3600  # `make torture`: every step of every verb, up to ten minutes each
_TEST_TIMEOUT_S = 600  # what 60 s are under emulation, beside other work
_OUTPUT_LINES = 40


class SecondKernelRun:
    """Started once, then asked for the reports that have come until :meth:`ended`."""

    def __init__(self, project: Path, tests: Sequence[str], *, slow: bool = False) -> None:
        self.tests = tuple(tests)
        self._timeout_s = _SLOW_TIMEOUT_S if slow else _TIMEOUT_S
        kernel, machine = chosen_machine()
        self.release = kernel.release
        command = (
            # Each plugin costs a second of start: those of the suite's own environment stay out.
            *(sys.executable, "-m", "pytest", "-q", "--disable-plugin-autoload"),
            *("-p", "pytest_timeout", "-p", "cnm.netlab.pytest_plugin", "-p", "no:cacheprovider"),
            *("--vm", "inside", "--vm-reports", f"{INSIDE}/{REPORTS}"),
            *("-o", f"timeout={_TEST_TIMEOUT_S}", f"@{INSIDE}/{TESTS}"),
        )
        job = Job(
            command,
            folder=project,
            cwd=project,
            environment=dict(os.environ),
            timeout_s=self._timeout_s,
            files={TESTS: "\n".join(self.tests)},
        )
        self._vm = VirtualMachine(kernel, machine, job)
        self._vm.__enter__()
        self._read = 0

    def ended(self) -> bool:
        """Whether no more reports will come.

        :raises VMError: the VM failed, or the time is over.
        """
        if self._vm.status() is None:
            return False
        if self._vm.timed_out:
            raise VMError(f"the tests took longer than {self._timeout_s} s\n{self.output()}")
        return True

    def reports(self) -> Iterator[dict[str, Any]]:
        """Those that have come since the last time, serialised by pytest."""
        try:
            with (self._vm.results / REPORTS).open("rb") as file:
                file.seek(self._read)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        yield from map(json.loads, whole.splitlines())

    def output(self) -> str:
        """The end of what the inner pytest said."""
        texts = [
            (self._vm.results / name).read_text(encoding="utf-8", errors="replace")
            for name in (STDOUT, STDERR)
        ]
        return "\n".join("".join(texts).splitlines()[-_OUTPUT_LINES:])

    def close(self) -> None:
        """End the VM."""
        self._vm.close()
