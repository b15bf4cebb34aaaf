"""Labs in tests, ours and others': pytest fixtures, and a good look when a test fails.

::

    def test_reach(netlab):
        lab = netlab("two-hosts.yaml")           # up, under a name of its own
        lab["node1"].run("ping", "-c", "1", "node2")

``netlab`` takes its labs down after the test, ``netlab_module`` after the last test of the module.
Both take a file (beside the test, or from where pytest runs) or the text of one. When a test
fails, a folder of dumps is written for each lab that is up; ``--pause-on-error`` waits then,
``--shell HOST`` opens a shell there, and ``--pcap LINK`` writes the packets of a link.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from cnm.netlab.lab import Lab

    LabFactory = Callable[..., Lab]

_LABS = pytest.StashKey[list["Lab"]]()
_NAME_LENGTH = 20  # of the file's own; what makes it unique fits behind it
_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("netlab", "network labs")
    group.addoption(
        "--pause-on-error",
        action="store_true",
        help="when a test with a lab fails, wait with the lab up until Enter is typed",
    )
    group.addoption("--shell", metavar="HOST", help="when a test fails, open a shell on this host")
    group.addoption(
        "--pcap",
        metavar="LINK",
        action="append",
        default=[],
        help="write the packets of this link of each lab (node1:eth0) beside the dumps",
    )
    group.addoption(
        "--netlab-dumps",
        metavar="DIR",
        default="build/netlab",
        help="where dumps of failed tests are written (default: %(default)s)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to stop in tests that run in several processes: nobody could type there."""
    config.stash[_LABS] = []
    interactive = config.getoption("--pause-on-error") or config.getoption("--shell")
    if interactive and getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("--pause-on-error and --shell need one process: add -n 0")


@pytest.fixture
def netlab(request: pytest.FixtureRequest) -> Iterator[LabFactory]:
    """``netlab(file or text, up=True)``: a lab, down after the test."""
    with _labs(request) as make:
        yield make


@pytest.fixture(scope="module")
def netlab_module(request: pytest.FixtureRequest) -> Iterator[LabFactory]:
    """As ``netlab``; down after the module's last test."""
    with _labs(request) as make:
        yield make


@contextlib.contextmanager
def _labs(request: pytest.FixtureRequest) -> Iterator[LabFactory]:
    from cnm.netlab.lab import Lab

    with contextlib.ExitStack() as stack:

        def make(source: str | Path, *, up: bool = True) -> Lab:
            lab = Lab.parse(*_text_and_path(source, request.path.parent))
            lab = lab.renamed(_unique(lab.name))
            active = request.config.stash[_LABS]
            active.append(lab)
            stack.callback(active.remove, lab)
            stack.callback(lab.down)
            if up:
                lab.up()
                stack.enter_context(_captured(request.config, lab))
            return lab

        yield make


def _text_and_path(source: str | Path, beside: Path) -> tuple[str, Path]:
    """A lab file's text and path; a text is one that has a line break."""
    if isinstance(source, str) and "\n" in source:
        return source, beside / "lab.yaml"
    path = beside / source
    path = path if path.exists() else Path(source)
    return path.read_text(encoding="utf-8"), path


def _unique(name: str) -> str:
    """Labs of tests that run at once must not meet, whatever they call themselves."""
    return f"{name[:_NAME_LENGTH].rstrip('-')}-{next(_numbers)}-{secrets.token_hex(3)}"


@contextlib.contextmanager
def _captured(config: pytest.Config, lab: Lab) -> Iterator[None]:
    """``--pcap``: tcpdump on the links that this lab has."""
    with contextlib.ExitStack() as stack:
        for name in config.getoption("--pcap"):
            link = lab.spec.link(name)
            end = (
                next((end for end in link.ends if lab.spec.host(end.node)), None) if link else None
            )
            if end is None:
                continue
            folder = Path(config.getoption("--netlab-dumps")).absolute() / lab.name
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{str(end).replace(':', '-')}.pcap"
            command = ("tcpdump", "-U", "-n", "-i", end.interface, "-w", str(file))
            process = lab[end.node].popen(*command, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield


# failures


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """While the labs of a failed test are still up."""
    report = yield
    if report.failed and not _is_interrupt(call):
        for lab in item.config.stash[_LABS]:
            _look(item, report, lab)
    return report


def _is_interrupt(call: pytest.CallInfo[None]) -> bool:
    return call.excinfo is not None and isinstance(call.excinfo.value, KeyboardInterrupt)


def _look(item: pytest.Item, report: pytest.TestReport, lab: Lab) -> None:
    from cnm.netlab.dump import dump

    folder = _folder(item, lab)
    try:
        dump(lab, folder)
        report.sections.append(("netlab", f"dumps of lab {lab.name}: {folder}"))
    except Exception as error:  # the test's own failure is what matters
        report.sections.append(("netlab", f"no dumps of lab {lab.name}: {error}"))
    shell = item.config.getoption("--shell")
    if shell and lab.spec.host(shell):
        with _terminal(item.config):
            _say(f"\n{item.nodeid} failed: a shell on {shell} of lab {lab.name}; exit goes on\n")
            command = [sys.executable, "-P", "-m", "cnm.netlab", "exec", lab.name, shell]
            subprocess.run(command, check=False)
    if item.config.getoption("--pause-on-error"):
        with _terminal(item.config):
            _say(
                f"\n{item.nodeid} failed: {_first_line(report)}\n"
                f"lab {lab.name} is up: netlab exec {lab.name} HOST; Enter goes on\n"
            )
            sys.stdin.readline()


def _folder(item: pytest.Item, lab: Lab) -> Path:
    test = re.sub(r"[^\w.-]+", "-", item.nodeid).strip("-")[-100:]
    base = Path(item.config.getoption("--netlab-dumps")).absolute()
    return base / f"{test}-{os.getpid()}" / lab.name


@contextlib.contextmanager
def _terminal(config: pytest.Config) -> Iterator[None]:
    """Standard input and output as they are outside pytest."""
    capture = cast(Any, config.pluginmanager.getplugin("capturemanager"))
    with capture.global_and_fixture_disabled():
        capture.suspend_global_capture(in_=True)  # which leaves the input out; the next test
        yield  # takes it again


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _first_line(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(getattr(crash, "message", report.longrepr)).splitlines()[0]
