"""Runs tests on the first kernel that has what they need: this one, or Debian's in the VM lab.

``@pytest.mark.needs("netem", …)`` names features (:data:`cnm.netlab.features.PROBES`). A test
whose kernel this is not runs in the VM, which is booted once for all of them, beside the tests
that run here (two of them where the tests are many: a VM has one processor, the machine more);
its outcome is reported like any other, its name followed by ``@`` and the kernel's release.
``@pytest.mark.both_kernels`` runs here, and there too if asked for.

``--vm``: ``auto`` (what needs it runs in the VM), ``also`` (and what is for both kernels; the
session fails if nothing ran there), ``only`` (the same and nothing else), ``inside``: this is
the pytest in the VM, which runs all that it is given and writes its reports to ``--vm-reports``.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from secondkernel import selection
from secondkernel.run import SecondKernelRun

from cnm.netlab.errors import VMError
from cnm.netlab.features import Features

MODES = ("auto", "also", "only", "inside")
_WORKERS_LIST = "second_kernel_list"
_POLL_S = 0.2
_VMS_MAX, _MANY = 2, 40  # a second boot costs as much as some twenty tests


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--vm`` and ``--vm-reports``."""
    group = parser.getgroup("second kernel")
    group.addoption("--vm", choices=MODES, default="auto", help="which kernels to run tests on")
    group.addoption("--vm-reports", metavar="FILE", help="inside: where reports are written")


def pytest_configure(config: pytest.Config) -> None:
    """Register the part that this process plays."""
    if config.getoption("vm") == "inside":
        config.pluginmanager.register(Inside(config), "second-kernel-inside")
    elif hasattr(config, "workerinput"):
        config.pluginmanager.register(Worker(config), "second-kernel-worker")
    elif not config.getoption("collectonly"):
        config.pluginmanager.register(Outside(config), "second-kernel-outside")


class Inside:
    """In the VM: runs everything, tells how it went line by line."""

    def __init__(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", "xdist_group(name): means nothing without xdist")
        self._config = config
        self._features = Features()
        self._file = Path(config.getoption("vm_reports")).open("w", encoding="utf-8", buffering=1)

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """What this kernel has not either, no kernel has: a failure."""
        if lacking := self._features.lacking(selection.needed(item)):
            pytest.fail(f"no kernel has: {', '.join(lacking)}", pytrace=False)

    def pytest_collection_finish(self) -> None:
        """What is here stays: under emulation each look of the collector at it takes a second."""
        gc.collect()
        gc.freeze()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One line each; complete when it is written."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._file.write(json.dumps(data) + "\n")

    def pytest_unconfigure(self) -> None:
        """The last line is written already."""
        self._file.close()


class Chooser:
    """Takes out of a collection what is for the second kernel."""

    def __init__(self, config: pytest.Config) -> None:
        self._mode = str(config.getoption("vm"))
        self._features = Features()
        self.there: list[str] = []

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Reading them all takes longer than booting: ``only`` reads those that name a marker."""
        if self._mode != "only" or not collection_path.match("test_*.py"):
            return None
        return None if selection.names_marks(collection_path) else True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """Around pytest's own selection by ``-k`` and ``-m``."""
        names = {item: item.nodeid for item in items}  # xdist adds groups to them
        selection.mark_for_vm(items, self._features)
        yield
        for item in items:
            if selection.is_for_vm(item) and not selection.names_marks(item.path):
                raise pytest.UsageError(f"{item.nodeid}: write its marker into the file itself")
        parts = selection.split(items, names, self._features, self._mode)
        items[:] = parts.here
        self.there = parts.there


class Worker(Chooser):
    """A worker of xdist: tells the main process through a file, before it has collected."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._list = Path(config.workerinput[_WORKERS_LIST])  # type: ignore[attr-defined]

    @pytest.hookimpl(tryfirst=True)  # before xdist tells the main process
    def pytest_collection_finish(self) -> None:
        """All workers collect the same: whoever writes last changes nothing."""
        mine = self._list.with_suffix(f".{id(self)}")
        mine.write_text(json.dumps(self.there), encoding="utf-8")
        mine.replace(self._list)


class Outside(Chooser):
    """The main process: starts the VM when the tests for it are known, and waits for it."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._config = config
        self._runs: list[SecondKernelRun] = []
        self._trouble = ""
        self._list: Path | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """xdist makes a worker."""
        if self._list is None:
            factory = self._config._tmp_path_factory  # type: ignore[attr-defined]
            self._list = factory.mktemp("second-kernel") / "list"
        node.workerinput[_WORKERS_LIST] = str(self._list)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        """The first worker's list is everybody's."""
        if self._list is not None and not self.there:
            self.there = json.loads(self._list.read_text(encoding="utf-8"))
            self._start()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Beside the tests of this kernel."""
        self._start()
        try:
            result = yield
            self._finish(session)
        finally:
            for run in self._runs:
                run.close()
        return result

    def _start(self) -> None:
        if self._runs or self._trouble or not self.there:
            return
        number = min(_VMS_MAX, os.cpu_count() or 1) if len(self.there) >= _MANY else 1
        slow = self._config.getoption("markexpr") == "slow"
        try:
            for share in selection.shares(self.there, number):
                self._runs.append(SecondKernelRun(self._config.rootpath, share, slow=slow))
        except VMError as error:
            self._trouble = str(error)

    def _finish(self, session: pytest.Session) -> None:
        if not self.there:
            if self._mode in ("also", "only"):
                self._fail("no test was selected for the second kernel")
            return
        session.testscollected += len(self.there)
        if self._trouble:
            return self._fail(self._trouble)
        left = {run: set(run.tests) for run in self._runs}
        while left:
            for run in list(left):
                if self._has_ended(run, left[run]):
                    del left[run]
            time.sleep(_POLL_S)

    def _has_ended(self, run: SecondKernelRun, missing: set[str]) -> bool:
        """Tell what has come; what is missing at the end is a failure, too."""
        try:
            ended = run.ended()
            for data in run.reports():
                missing.discard(data["nodeid"])
                self._report(data, run.release)
        except VMError as error:
            self._fail(str(error))
            return True
        if ended and missing:
            names = "\n".join(sorted(missing))
            self._fail(f"tests that did not run there:\n{names}\n{run.output()}")
        return ended

    def _report(self, data: dict[str, Any], release: str) -> None:
        hook = self._config.hook
        report = hook.pytest_report_from_serializable(config=self._config, data=data)
        report.nodeid = f"{report.nodeid}@{release}"
        path, line, domain = report.location
        report.location = (path, line, f"{domain}@{release}")
        hook.pytest_runtest_logreport(report=report)

    def _fail(self, text: str) -> None:
        name = "second kernel"
        report = pytest.TestReport(
            nodeid=name,
            location=("", None, name),
            keywords={},
            outcome="failed",
            longrepr=f"the second kernel: {text}",
            when="call",
        )
        self._config.hook.pytest_runtest_logreport(report=report)
