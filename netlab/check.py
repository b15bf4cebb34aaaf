"""The checks of a lab, run one after the other: look, compare with what was wanted, look again.

One at a time: traffic of one must not be counted, or slowed down, by another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cnm.errors import CNMError
from cnm.netlab.errors import LabError
from cnm.netlab.model import (
    Check,
    Http,
    Lab,
    Packets,
    Ping,
    Probe,
    Reach,
    Resolve,
    Run,
    Throughput,
    Traceroute,
    Traffic,
)
from cnm.netlab.probes import naming, path, streams, wire
from cnm.netlab.probes.outcome import Outcome
from cnm.netlab.probes.where import address_of
from cnm.netlab.vantage import Finder

_PAUSE_S = 0.2
_COMMAND_WITHIN_S = 60.0

WireFinder = Callable[[str, str], str]  # link, node -> path of the namespace with that end


@dataclass(frozen=True, slots=True)
class Result:
    """A check that was run. ``detail``: what was seen last. Seconds include the tries."""

    check: Check
    passed: bool
    detail: str
    seconds: float
    tries: int


class Checker:
    """Runs checks on a lab that is up.

    ``find`` gives a vantage for a place, ``namespace_of`` the namespace of a host or switch.
    """

    def __init__(self, lab: Lab, find: Finder, namespace_of: Callable[[str], str]) -> None:
        self._lab = lab
        self._find = find
        self._namespace_of = namespace_of

    def run_all(self) -> Iterator[Result]:
        """Each check's result as soon as it is known, in the order of the file."""
        for check in self._lab.checks:
            yield self.run(check)

    def run(self, check: Check) -> Result:
        """Try until it is as wanted, or its time is up; never raises for what it looks at."""
        started = time.monotonic()
        tries = 0
        while True:
            outcome, tries = self._look(check.probe), tries + 1
            passed = outcome.held == check.expect
            taken = time.monotonic() - started
            if passed or taken + _PAUSE_S > check.within_s:
                return Result(check, passed, outcome.detail, taken, tries)
            time.sleep(_PAUSE_S)

    def _look(self, probe: Probe) -> Outcome:
        try:
            return self._packets(probe) if isinstance(probe, Packets) else self._traffic(probe)
        except CNMError as error:
            return Outcome(False, str(error))
        except OSError as error:
            return Outcome(False, error.strerror or str(error))

    def _packets(self, probe: Packets) -> Outcome:
        link = self._lab.link(probe.link)
        end = link.end(probe.node) if link else None
        if end is None:
            raise LabError(f"no link {probe.link} at {probe.node}")
        traffic = probe.during
        return wire.count(
            self._namespace_of(end.node),
            end.interface,
            probe.filter,
            probe.at_least,
            (lambda: self._safe(traffic)) if traffic is not None else None,
            probe.seconds,
        )

    def _safe(self, traffic: Traffic) -> Outcome:
        """What sets off packets may itself fail: they are counted all the same."""
        return self._look(traffic)

    def _traffic(self, probe: Traffic) -> Outcome:
        source = self._find(probe.source)
        match probe:
            case Ping():
                address = address_of(self._find, source, probe.target, probe.family)
                return path.ping(source, probe, address)
            case Traceroute():
                return path.traceroute(source, probe, address_of(self._find, source, probe.target))
            case Resolve():
                server = probe.server and address_of(self._find, source, probe.server)
                return naming.look(source, probe.name, probe.record, probe.answers, server or None)
            case Reach():
                address = address_of(self._find, source, probe.target)
                return streams.reach(source, address, probe.port, probe.transport)
            case Http():
                address = address_of(self._find, source, streams.host_of(probe.url))
                return streams.get(source, probe, address)
            case Throughput():
                address = address_of(self._find, source, probe.target)
                return streams.throughput(source, self._find(probe.target), probe, address)
            case Run():
                ended = source.run(probe.command, _COMMAND_WITHIN_S)
                return _judged(probe, ended.status, ended.output)


def _judged(probe: Run, status: int, output: str) -> Outcome:
    last = output.strip().splitlines()[-1:] or ["no output"]
    seen = f"status {status}: {last[0]}"
    wanted = status == probe.status and (probe.contains is None or probe.contains in output)
    return Outcome(wanted, seen)
