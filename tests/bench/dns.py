"""``dns.*``: the resolvers, asked by dnsperf from inside a container.

*hot*: five names. *mixed*: 12,400 questions about 4,000 aliases of ten containers, in a shuffled
order: A, AAAA (there is none: NODATA), ``alias.network``, MX; every second pair of rounds each
query carries an EDNS cookie. In even rounds containers connect to that network and disconnect
meanwhile; in odd ones PTR is asked, too. Not both at once: Docker 20.10 stands still for ever
when PTR is asked while an endpoint leaves (``network.ResolveIP`` locks the controller and then
the network, ``endpoint.sbLeave`` the other way round). *p99*: the hot names at 10,000 queries a
second. netavark's resolver is asked for hot names and p99 only: a container has one set of names
there.
"""

from __future__ import annotations

import itertools
import random
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from peers.api import Api

from bench.contenders import Contender, Engine, NetavarkContender
from bench.measure import Metrics
from bench.stage import Peers

_ROUNDS = 8  # of two seconds each
_SECONDS = 2
_CLIENTS, _OUTSTANDING = 8, 200
_HOLDERS, _ALIASES = 10, 400  # of the mixed questions
_COMING = range(20, 30)  # containers that connect and disconnect meanwhile
_PAUSE_S = 0.1  # between them; the same for everybody, or the faster engine would work more
_RATE = 10_000
_COOKIE = ("-E", "10:0123456789abcdef")
_NETWORK = "bench-names"
_ENGINES_RESOLVER, _NETAVARKS_RESOLVER = "127.0.0.11", "10.89.0.1"


@dataclass(frozen=True)
class _Asked:
    """A resolver, and where it is asked from."""

    name: str
    namespace: str
    server: str

    def perf(self, questions: Path, *options: str) -> str:
        """What dnsperf says.

        :raises ValueError: not every query had an answer, and NOERROR.
        """
        command = ["nsenter", f"--net={self.namespace}", "dnsperf", "-s", self.server]
        command += ["-d", str(questions), "-l", str(_SECONDS), "-c", str(_CLIENTS), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        codes = re.search(r"Response codes: *(.*)", done.stdout)
        if codes is None or not re.fullmatch(r"NOERROR \d+ \(100\.00%\)", codes[1]):
            raise ValueError(f"{self.name}: wrong answers: {codes and codes[1]}")
        return done.stdout

    def rate(self, questions: Path, *options: str) -> float:
        """Queries a second."""
        said = self.perf(questions, "-q", str(_OUTSTANDING), *options)
        return _number(r"Queries per second: *([\d.]+)", said)

    def p99(self, questions: Path) -> float:
        """Milliseconds."""
        said = self.perf(questions, "-v", "-Q", str(_RATE))
        taken = sorted(float(row) for row in re.findall(r"^> NOERROR .* ([\d.]+)$", said, re.M))
        return taken[len(taken) * 99 // 100] * 1e3


def measure(metrics: Metrics, peers: Peers) -> None:
    """In turn; without dnsperf there is no figure."""
    if shutil.which("dnsperf") is None:
        return
    with tempfile.TemporaryDirectory(prefix="cnmb-") as folder:
        hot, mixed = Path(folder, "hot"), Path(folder, "mixed")
        _hot(metrics, peers, hot)
        _mixed(metrics, peers, mixed)


def _hot(metrics: Metrics, peers: Peers, questions: Path) -> None:
    questions.write_text("".join(f"c{number} A\n" for number in range(5)))
    contenders = [each for each in peers.contenders if isinstance(each, Engine | NetavarkContender)]
    for contender in contenders:
        contender.create()
        contender.attach_all()
    try:
        asked = [_Asked(each.name, each.namespace(0), _server(each)) for each in contenders]
        for one in asked:
            one.rate(questions)  # warm
        for _ in range(min(_ROUNDS, peers.rounds)):
            for one in asked:
                metrics.add("dns.hot.qps", one.name, one.rate(questions))
                metrics.add("dns.local.p99", one.name, one.p99(questions))
    finally:
        for contender in contenders:
            contender.detach_all()
            contender.remove()


def _server(contender: Contender) -> str:
    return _ENGINES_RESOLVER if isinstance(contender, Engine) else _NETAVARKS_RESOLVER


def _mixed(metrics: Metrics, peers: Peers, questions: Path) -> None:
    engines = [
        (each, api)
        for each in peers.contenders
        for name, api in peers.engines()
        if isinstance(each, Engine) and each.name == name
    ]
    addresses: list[str] = []
    for _, api in engines:
        api.call("POST", "/networks/create", _definition())
        for number in range(_HOLDERS):
            _connect(api, number, [f"a{number * _ALIASES + one}" for one in range(_ALIASES)])
        addresses = _addresses(api)
    asked = [
        (_Asked(each.name, each.namespace(0), _ENGINES_RESOLVER), api) for each, api in engines
    ]
    try:
        for number in range(-1, min(_ROUNDS, peers.rounds)):  # the first one warms
            churning = number % 2 == 0
            questions.write_text("\n".join(_questions([] if churning else addresses)) + "\n")
            for one, api in asked:
                with _coming_and_going(api) if churning else nullcontext():
                    rate = one.rate(questions, *(_COOKIE if number % 4 > 1 else ()))
                if number >= 0:
                    metrics.add("dns.mixed.qps", one.name, rate)
    finally:
        for _, api in engines:
            for number in range(_HOLDERS):
                _disconnect(api, number)
            api.call("DELETE", f"/networks/{_NETWORK}")


def _definition() -> dict[str, object]:
    """The same subnet in each engine, so that the same addresses are asked for."""
    return {"Name": _NETWORK, "IPAM": {"Config": [{"Subnet": "10.77.0.0/24"}]}}


def _questions(addresses: Sequence[str]) -> list[str]:
    found = [f"{'.'.join(reversed(each.split('.')))}.in-addr.arpa PTR" for each in addresses] * 40
    for number in range(_HOLDERS * _ALIASES):
        name = f"a{number}"
        found += [f"{name} A", f"{name} AAAA", f"{name}.{_NETWORK} A"]
        found += [f"{name} MX"] if number % 10 == 0 else []
    random.Random(7).shuffle(found)
    return found


def _addresses(api: Api) -> list[str]:
    attached = api.call("GET", f"/networks/{_NETWORK}")["Containers"].values()
    return sorted(item["IPv4Address"].partition("/")[0] for item in attached)


@contextmanager
def _coming_and_going(api: Api) -> Iterator[None]:
    """Containers connect and disconnect, by a connection of their own."""
    over = threading.Event()
    other = api.another()

    def run() -> None:
        for number in itertools.cycle(_COMING):
            _connect(other, number, [f"b{number}"])
            stop = over.wait(_PAUSE_S)
            _disconnect(other, number)
            if stop or over.wait(_PAUSE_S):
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        other.close()


def _connect(api: Api, number: int, aliases: list[str]) -> None:
    wish = {"Container": f"c{number}", "EndpointConfig": {"Aliases": aliases}}
    api.call("POST", f"/networks/{_NETWORK}/connect", wish)


def _disconnect(api: Api, number: int) -> None:
    api.call("POST", f"/networks/{_NETWORK}/disconnect", {"Container": f"c{number}"})


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"dnsperf says no such thing: {text}")
    return float(found[1])
