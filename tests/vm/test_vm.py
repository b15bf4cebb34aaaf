"""``netlab vm`` for real: what goes in and comes out, what goes wrong, what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from secondkernel import selection

from cnm.netlab.vm import OWN_FAILURE, TIMED_OUT
from cnm.netlab.vmkernel import cache_folder, cached_kernel, ensure_kernel

# One boot under emulation takes 10 s alone, and a minute beside the rest of the suite.
pytestmark = [pytest.mark.vm, pytest.mark.timeout(400), pytest.mark.xdist_group("vm")]

PROGRAM = Path(sys.executable).parent / "netlab"
DEADLINE_S = 300.0


class Runs:
    """Runs of the program, with a folder for temporary files that nobody else uses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        self.temporary = folder / "t"
        for path in (self.shared, self.temporary):
            path.mkdir()
        self.environment = {**os.environ, "TMPDIR": str(self.temporary)}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["env", "--default-signal", PROGRAM, "vm", *words],
            cwd=self.shared,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._started.append(process)
        return process

    def run(self, *words: str, **environment: str) -> tuple[int, bytes, bytes]:
        return outcome(self.start(*words, **environment))

    def machines(self) -> list[int]:
        """The pids of QEMU and of janitors that belong to these runs."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if str(self.temporary).encode() in words:
                    found.append(int(entry.name))
        return found

    def left(self) -> list[object]:
        return [*self.machines(), *self.temporary.iterdir()]

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()


def outcome(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


def wait_for(what: str, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    made = Runs(tmp_path)
    try:
        yield made
        wait_for("everything of the VMs to be gone", lambda: not made.left())
    finally:
        made.close()


@pytest.fixture(scope="module", autouse=True)
def kernel() -> str:
    """Fetched before the first test, if need be; its release."""
    return ensure_kernel(cache_folder(), lambda _: None).release


def test_two_at_once_each_with_its_own(runs: Runs, kernel: str) -> None:
    script = (
        "uname -r; pwd; cat given; printf 'a\\0b\\n\\377'; printf 'e\\0\\n' >&2; "
        'echo $WHO > $WHO.made; touch /etc/$WHO.lost; echo "$@"; exit $STATUS'
    )
    (runs.shared / "given").write_text("from the host\n")
    words = ("--", "sh", "-c", script, "sh", "two  words", "$x")
    one = runs.start(*words, WHO="one", STATUS="42")
    two = runs.start(*words, WHO="two", STATUS="0")
    said = f"{kernel}\n{runs.shared}\nfrom the host\na\0b\n".encode() + b"\xfftwo  words $x\n"
    assert outcome(one) == (42, said, b"e\0\n")
    assert outcome(two) == (0, said, b"e\0\n")
    for name in ("one", "two"):
        assert (runs.shared / f"{name}.made").read_text() == f"{name}\n"
        assert not Path(f"/etc/{name}.lost").exists()
    assert os.uname().release != kernel


def test_a_command_that_takes_too_long(runs: Runs) -> None:
    """What it wrote is kept; what it started in the background does not hold anything up."""
    script = (
        "echo begun; echo kept > kept; trap 'echo told; exit 3' TERM; sleep 1d & sleep 1d & wait"
    )
    status, out, err = runs.run("--timeout", "2.5", "--", "sh", "-c", script)
    assert (status, out) == (TIMED_OUT, b"begun\ntold\n")
    assert err == b"netlab vm: the command did not end within 2.5 s\n"
    assert (runs.shared / "kept").read_text() == "kept\n"


def test_a_command_that_kills_the_kernel(runs: Runs) -> None:
    status, out, err = runs.run("--", "sh", "-c", "echo now; sleep 2; echo c > /proc/sysrq-trigger")
    assert (status, out) == (OWN_FAILURE, b"now\n")
    assert err.startswith(b"netlab vm: the second kernel booted and ended; the end of its console:")
    assert b"Kernel panic" in err


def test_a_boot_that_hangs(runs: Runs) -> None:
    """A kernel that was not copied whole: it finds that it cannot be unpacked, and stops."""
    whole = cached_kernel(cache_folder())
    assert whole is not None
    root = runs.folder / "kernel"
    for path in (root / "boot", root / "lib/modules"):
        path.mkdir(parents=True)
    data = whole.image.read_bytes()
    middle = len(data) // 2
    (root / "boot" / whole.image.name).write_bytes(
        data[:middle] + bytes(4096) + data[middle + 4096 :]
    )
    (root / "lib/modules" / whole.release).symlink_to(whole.modules)
    status, out, err = runs.run("--kernel", str(root), "--boot-timeout", "20", "--", "true")
    assert (status, out) == (OWN_FAILURE, b"")
    assert err.startswith(b"netlab vm: the second kernel did not boot within 20 s; the end of its")
    assert b"-- System halted" in err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_ended_by_a_signal_it_leaves_nothing(runs: Runs, number: signal.Signals) -> None:
    process = runs.start("--", "sleep", "1d")
    wait_for("QEMU to run", lambda: len(runs.machines()) == 2)
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == (130 if number is signal.SIGINT else -number)
    wait_for("QEMU and the folder to be gone", lambda: not runs.left())


SAMPLE = """
import os
import pytest

@pytest.mark.needs("netem")
def test_elsewhere(record_property):
    record_property("ran on", os.uname().release)

@pytest.mark.needs("netem")
def test_elsewhere_in_vain():
    assert os.uname().release == "another"

@pytest.mark.needs("bridge")
def test_here():
    assert os.environ.get("CNM_VM") is None

@pytest.mark.both_kernels
def test_on_both():
    pass
"""


def inner_pytest(folder: Path, *words: str, **environment: str) -> tuple[int, str]:
    """A session of its own with our plugin, in a project of one file."""
    project = Path(__file__).parents[2]
    tests = folder / "tests"
    tests.mkdir(exist_ok=True)
    (folder / "pyproject.toml").write_text((project / "pyproject.toml").read_text())
    (tests / "test_sample.py").write_text(SAMPLE)
    (tests / "conftest.py").write_text('pytest_plugins = ["secondkernel.plugin"]\n')
    (tests / "secondkernel").symlink_to(project / "tests/secondkernel")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words, "tests"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("workers", ["0", "2"])
def test_each_test_runs_on_the_first_kernel_that_has_what_it_needs(
    tmp_path: Path, kernel: str, workers: str
) -> None:
    report = tmp_path / "junit.xml"
    mode = {"0": "auto", "2": "also"}[workers]
    status, out = inner_pytest(tmp_path, "-n", workers, "--vm", mode, "--junitxml", str(report))
    assert status == 1, out
    passed = {"auto": 3, "also": 4}[mode]
    assert f"== 1 failed, {passed} passed in " in out
    assert f"FAILED tests/test_sample.py::test_elsewhere_in_vain@{kernel} - " in out
    assert f"test_elsewhere@{kernel}" in report.read_text()
    assert ("test_on_both@" in report.read_text()) == (mode == "also")


def test_a_vm_that_cannot_be_had_fails_the_session(tmp_path: Path) -> None:
    root = tmp_path / "cache/cnm/kernels/k"
    for part in ("boot", "lib/modules/0.1"):
        (root / part).mkdir(parents=True)
    (root / "boot/vmlinuz-0.1").write_text("this is no kernel")
    (root / "manifest.json").write_text(json.dumps({"release": "0.1", "package": "k"}))
    status, out = inner_pytest(tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert status == 1
    assert "the second kernel: virtme-ng cannot make the VM" in out
    assert "== 1 failed, 2 passed in " in out


def test_nothing_to_run_there_is_a_failure_if_it_was_asked_for(tmp_path: Path) -> None:
    status, out = inner_pytest(tmp_path, "--vm", "also", "-k", "test_here")
    assert status == 1
    assert "no test was selected for the second kernel" in out
    assert "== 1 failed, 1 passed, 3 deselected in " in out


def test_a_marker_from_another_file_is_refused(tmp_path: Path) -> None:
    """``--vm only`` would not find it."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/far.py").write_text("import pytest\nfar = pytest.mark.both_kernels\n")
    (tmp_path / "tests/test_far.py").write_text("from far import far\n@far\ndef test_x(): pass\n")
    status, out = inner_pytest(tmp_path, "-k", "test_x")
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "test_x: write its marker into the file itself" in out


def test_many_are_shared_by_whole_files() -> None:
    files = {"a": 30, "b": 20, "c": 12, "d": 1}
    tests = [
        f"{file}.py::test_{number}" for file, count in files.items() for number in range(count)
    ]
    one, two = selection.shares(tests, 2)
    assert sorted(one + two) == sorted(tests)
    assert {test[0] for test in one} == {"a", "d"}
    assert {test[0] for test in two} == {"b", "c"}
    assert selection.shares(tests[:3], 2) == [tests[:3]]
    assert selection.shares(tests, 1) == [tests]
