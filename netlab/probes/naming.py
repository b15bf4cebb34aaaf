"""Names as a place resolves them: its hosts file, then the servers of its resolv.conf."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from functools import partial

from cnm.dns import stub
from cnm.netlab.errors import LabError
from cnm.netlab.probes.outcome import Outcome
from cnm.netlab.vantage import Vantage
from cnm.runtime.kernel.netns import NetNS
from cnm.types import IPAddress

_TIMEOUT_S = 2.0  # for each server


class NoAnswer(LabError):
    """No server answered."""


def resolve(
    source: Vantage, name: str, record: str = "A", server: IPAddress | None = None
) -> tuple[str, ...]:
    """The answers for a name, as texts; none if it does not exist.

    :raises NoAnswer: nobody answered, or only with an error.
    """
    if server is None:
        known = tuple(_in_hosts_file(source.text("/etc/hosts"), name, record))
        if known:
            return known
    servers = [server] if server is not None else _servers(source.text("/etc/resolv.conf"))
    failures = []
    with NetNS(source.netns) as namespace:
        for each in servers:
            try:
                return namespace.run(partial(stub.ask, each, name, record, _TIMEOUT_S))
            except (OSError, stub.Refused) as error:
                failures.append(f"{each}: {error}")
    raise NoAnswer("; ".join(failures) or "resolv.conf names no server")


def look(
    source: Vantage, name: str, record: str, wanted: tuple[str, ...], server: IPAddress | None
) -> Outcome:
    """Whether a name has all of these answers, or any if none is named."""
    try:
        answers = resolve(source, name, record, server)
    except NoAnswer as error:
        return Outcome(False, str(error))
    seen = ", ".join(answers) or "no such record"
    missing = [answer for answer in wanted if answer.rstrip(".") not in answers]
    if missing:
        return Outcome(False, f"{seen}; not {', '.join(missing)}")
    return Outcome(bool(answers), seen)


def _in_hosts_file(text: str, name: str, record: str) -> Iterator[str]:
    wanted = {"A": socket.AF_INET, "AAAA": socket.AF_INET6}.get(record)
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if wanted is not None and name.lower().rstrip(".") in map(str.lower, names):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            if family == wanted:
                yield address


def _servers(text: str) -> list[IPAddress]:
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            found.append(ipaddress.ip_address(words[1].partition("%")[0]))
    return found
