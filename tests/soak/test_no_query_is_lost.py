"""Containers come and go, the daemon dies and comes again; every query is answered.

dnsperf asks from inside one container all the while, for names that stay. Four others are started
and stopped over and over; whoever starts one asks for its name at once, and must be told the
address that it has now. A third of the way the daemon gets SIGKILL and is started again, another
third later it is stopped and started, in the midst of whatever it does. 1,000 starts and stops in
``make soak``, 40 in ``make test``.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dnslib
import pytest
from conftest import DaemonFactory
from kernel.namespaces import Namespace, entered
from livedaemon import Answer, LiveDaemon
from patience import patient

Record = Callable[[str, object], None]  # pytest's record_property

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(300)]

SHORT, LONG = 40, 1_000
COMING = 4  # containers, each with a thread of its own
QUERIES_A_SECOND = 2_000  # a load, and half of a core is left for those who come and go
LOST_AFTER_S = 20  # the machine may be busy: late is not lost
AWAY_S = patient(60.0)
STEADY = ("web", "db", "web.front", "db.front")
RESOLVER = ("127.0.0.11", 53)


class Asker(Namespace):
    """The network namespace of the container that asks, by its path."""

    @property
    def path(self) -> str:
        return self.name


@pytest.fixture
def live(daemon: DaemonFactory) -> LiveDaemon:
    running = daemon()
    running.cnm("network", "create", "front")
    for name in ("asker", "web", "db"):
        running.cnm("run", "-d", "--name", name, "--network", "front", "host", "sleep", "1d")
    for number in range(COMING):
        running.cnm("create", "--name", f"c{number}", "--network", "front", "host", "sleep", "1d")
    return running


def test_a_few_starts_and_stops(live: LiveDaemon, tmp_path: Path, record_property: Record) -> None:
    record_property("answered", come_and_go(live, tmp_path, SHORT))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_starts_and_stops(
    live: LiveDaemon, tmp_path: Path, record_property: Record
) -> None:
    record_property("answered", come_and_go(live, tmp_path, LONG))


def come_and_go(live: LiveDaemon, folder: Path, cycles: int) -> int:
    """How many queries of dnsperf's were answered."""
    asker = Asker(sandbox_path(live, "asker"))
    done = [0] * COMING
    events = [live.kill, live.stop]
    with asked_all_the_while(asker, folder) as answered, ThreadPoolExecutor(COMING) as pool:
        work = [pool.submit(cycle, live, asker, n, cycles // COMING, done) for n in range(COMING)]
        for number, end in enumerate(events, start=1):
            wait_for(work, done, number * cycles // (len(events) + 1))
            end()
            live.start()
        for each in work:
            each.result()
    assert sum(done) == cycles
    assert live.http("POST", "/cnm/v1/sweep").document == {"Repairs": []}
    return answered[0]


def wait_for(work: Sequence[Future[None]], done: list[int], number: int) -> None:
    """Until so many have come and gone; whoever fails before that is heard."""
    while sum(done) < number:
        for each in work:
            if each.done():
                each.result()
        time.sleep(0.005)


def cycle(live: LiveDaemon, asker: Asker, number: int, times: int, done: list[int]) -> None:
    """Start, ask, stop."""
    name = f"c{number}"
    for turn in range(times):
        persist(lambda: live.http("POST", f"/containers/{name}/start"), (204, 304))
        found = persist(lambda: live.http("GET", f"/containers/{name}/json"), (200,)).document
        networks: dict[str, Any] = found["NetworkSettings"]["Networks"]
        assert told(asker, name, turn) == [networks["front"]["IPAddress"]]
        persist(lambda: live.http("POST", f"/containers/{name}/stop?t=0"), (204, 304))
        done[number] += 1


def persist(ask: Callable[[], Answer], wanted: tuple[int, ...]) -> Answer:
    """Ask until the daemon answers: it may be away, or on its way out."""
    deadline = time.monotonic() + AWAY_S
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = ask()
            if answer.status in wanted:
                return answer
            assert answer.status == 503, answer
        assert time.monotonic() < deadline, "the daemon does not come again"
        time.sleep(0.02)


def told(asker: Asker, name: str, turn: int) -> list[str]:
    """What one datagram brings back; there is no second one."""
    question = dnslib.DNSRecord.question(name)
    question.header.id = turn
    with entered(asker):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(patient(LOST_AFTER_S))
        client.connect(RESOLVER)
        client.send(bytes(question.pack()))
        reply = dnslib.DNSRecord.parse(client.recv(4096))
    assert reply.header.id == turn
    return [str(record.rdata) for record in reply.rr]


def sandbox_path(live: LiveDaemon, name: str) -> str:
    settings = live.http("GET", f"/containers/{name}/json").document["NetworkSettings"]
    return str(settings["SandboxKey"])


@contextlib.contextmanager
def asked_all_the_while(asker: Asker, folder: Path) -> Iterator[list[int]]:
    """dnsperf, from now to the end; then none of its queries is lost, and each had its answer."""
    questions = folder / "questions"
    questions.write_text("".join(f"{name} A\n" for name in STEADY))
    command = ["nsenter", f"--net={asker.path}", "dnsperf", "-s", RESOLVER[0], "-d", str(questions)]
    command += ["-c", "4", "-l", "36000", "-Q", str(QUERIES_A_SECOND), "-t", str(LOST_AFTER_S)]
    said = folder / "said"
    answered: list[int] = []
    with said.open("wb") as output, subprocess.Popen(command, stdout=output) as client:
        try:
            yield answered
        finally:
            client.send_signal(signal.SIGINT)  # it waits for what is under way, and tells
    answered.append(judge(said.read_text()))


def judge(said: str) -> int:
    """How many were answered."""
    counts = {
        name: int(number)
        for name, number in re.findall(r"Queries (\w+): +(\d+)(?: |$)", said, re.M)
    }
    assert counts["sent"] > 1000, said
    assert counts["lost"] == 0, said
    codes = re.search(r"Response codes: +(.*)", said)
    assert codes is not None, said
    assert codes[1] == f"NOERROR {counts['completed']} (100.00%)", said
    return counts["completed"]
