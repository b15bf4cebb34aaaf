"""The labs that come with netlab, each with its checks; and what is done to a lab that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from patience import patient

import cnm.netlab
from cnm.netlab import operations, report
from cnm.netlab.lab import Lab

LABS = Path(cnm.netlab.__file__).parent / "labs"
PROGRAM = str(Path(sys.executable).parent / "netlab")
_WITHIN_S = 20.0


def own_name(path: Path) -> tuple[str, str]:
    """The text of a lab file with a name that no other run has, and that name."""
    name = f"{path.stem}-{os.getpid()}"
    return path.read_text().replace(f"name: {path.stem}", f"name: {name}", 1), name


def command(*arguments: str, status: int = 0) -> str:
    """``netlab …`` to its end; what it said on both channels."""
    done = subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


NEEDS = {"vlan-trunk": ("vlan", "ipvlan")}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=pytest.mark.needs(*NEEDS.get(path.stem, ())))
        for path in sorted(LABS.glob("*.yaml"))
    ],
)
@pytest.mark.timeout(patient(180))
def test_each_lab_holds_what_it_says(path: Path, netlab: Callable[..., Lab]) -> None:
    results = list(operations.checker(netlab(path)).run_all())
    assert len(results) >= 3
    assert all(result.passed for result in results), "\n" + report.table(results)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A lab without daemons that is up, and its file."""
    text, name = own_name(LABS / "routed-underlay.yaml")
    path = tmp_path_factory.mktemp("lab") / f"{name}.yaml"
    path.write_text(text)
    command("up", str(path))
    yield name, path
    command("down", name)


def test_the_command_prints_a_table_and_writes_junit(
    running: tuple[str, Path], tmp_path: Path
) -> None:
    said = command("check", str(running[1]), "--only", "reach", "--junit", str(tmp_path / "r.xml"))
    assert said.splitlines()[0].split() == ["CHECK", "RESULT", "TIME", "SEEN"]
    assert "1 check: 1 ok, 0 failed" in said
    assert len(list(ElementTree.parse(tmp_path / "r.xml").iter("testcase"))) == 1


def test_a_check_that_fails_is_the_commands_status(
    running: tuple[str, Path], tmp_path: Path
) -> None:
    text = running[1].read_text()
    start = text.index("checks:")
    changed = tmp_path / "changed.yaml"
    changed.write_text(
        f"{text[:start]}checks:\n  - tcp: {{from: node1, to: node2, port: 9}}\n    within: 0s\n"
    )
    said = command("check", str(changed), status=1)
    assert "Connection refused" in said
    assert "0 ok, 1 failed" in said


def test_links_and_hosts_are_cut_impaired_and_healed(running: tuple[str, Path]) -> None:
    name, _ = running
    reach = ("check", name, "--only", "reach", "--quiet")
    command("cut", name, "node2")
    assert "right (node2:eth0 to r1:eth1): cut" in command("impair", name)
    assert "0 ok, 1 failed" in command(*reach, status=1)
    assert command("heal", name) == "right\n"
    assert "1 ok" in command(*reach)
    assert "loss 30%" in command("impair", name, "left", "--loss", "30%", "--rate", "5mbit")
    assert command("heal", name, "left") == "left\n"
    assert command("heal", name) == ""


def test_the_file_s_impairment_stands_from_the_start_and_comes_back(
    running: tuple[str, Path],
) -> None:
    name, path = running
    assert "rate 100Mbit" in command("impair", name)
    command("impair", name, "right", "--rate", "3mbit")
    assert "rate 3Mbit" in command("impair", name)
    command("up", str(path))
    assert "rate 3Mbit" in command("impair", name), "up changes nothing that is there"
    command("heal", name, "right")
    assert "rate 100Mbit" in command("impair", name)


def test_packets_are_shown_and_written(running: tuple[str, Path], tmp_path: Path) -> None:
    name, _ = running
    file = tmp_path / "c.pcap"
    for write, seen in (((), "ICMP echo request"), (("-w", str(file)), "1 packet captured")):
        words = [PROGRAM, "capture", name, "node2:eth0", *write, "-c", "1", "icmp"]
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            end = time.monotonic() + _WITHIN_S
            while process.poll() is None and time.monotonic() < end:
                command("exec", name, "node1", "--", "ping", "-4", "-c", "1", "node2")
            assert process.stdout is not None
            assert seen in process.stdout.read()
        assert process.returncode == 0
    assert file.read_bytes()[:4] in (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4")


def test_the_graph_is_the_kernels_truth(running: tuple[str, Path], tmp_path: Path) -> None:
    name, _ = running
    before = command("graph", name)
    assert "├─ eth0 10.1.0.254/24 fd00:1::fe/64 ── node1:eth0" in before
    command("exec", name, "node1", "--", "ip", "address", "add", "10.66.0.1/24", "dev", "eth0")
    assert "10.66.0.1/24" in command("graph", name)
    command("exec", name, "node1", "--", "ip", "address", "delete", "10.66.0.1/24", "dev", "eth0")
    assert command("graph", name) == before
    command("graph", name, "--svg", str(tmp_path / "lab.svg"))
    said = " ".join(ElementTree.parse(tmp_path / "lab.svg").getroot().itertext())
    assert "10.2.0.1/24" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("impair", "left", "--delay", "5parsecs"), "is not a time"),
        (("impair", "left", "--jitter", "5ms"), "--jitter varies a delay"),
        (("impair", "left"), "nothing to impair"),
        (("impair", "lefd", "--loss", "1%"), 'no link, host or switch "lefd"; did you mean "left"'),
        (("cut", "left", "nobody"), 'no link, host or switch "nobody"'),
        (("capture", "node1:eth9"), 'node1 has no interface "eth9"'),
        (("capture", "node1/c1"), "node1 has no container c1"),
        (("capture", "left", "-c", "0"), "is no number of packets"),
        (("capture", "left", "--fast"), "unrecognized arguments: --fast"),
        (("check", "--only", "xyz"), 'has no check with "xyz" in its name'),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    running: tuple[str, Path], words: tuple[str, ...], told: str
) -> None:
    name, _ = running
    verb, *rest = words
    done = subprocess.run(
        [PROGRAM, verb, name, *rest], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    state = json.loads(subprocess.check_output(["ip", "-j", "-n", f"{name}.node1", "link"]))
    assert {item["ifname"] for item in state} == {"lo", "eth0"}
