"""What the resolver counts. One thread writes; whoever reads sees whole numbers."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, fields
from typing import Any

# Upper bounds in seconds. The lower ones are what local names take, 5 s what a stub waits.
LATENCY_BOUNDS_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0, 5.0)


class Latency:
    """A histogram: how many took at most each of ``LATENCY_BOUNDS_S``, and longer."""

    __slots__ = ("buckets", "sum_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """``times`` queries took ``seconds`` each."""
        self.buckets[bisect_left(LATENCY_BOUNDS_S, seconds)] += times
        self.sum_s += seconds * times

    @property
    def count(self) -> int:
        return sum(self.buckets)

    def merge(self, other: Latency) -> None:
        """Another's, too."""
        self.buckets = [
            ours + theirs for ours, theirs in zip(self.buckets, other.buckets, strict=True)
        ]
        self.sum_s += other.sum_s

    def as_document(self) -> dict[str, Any]:
        """``buckets`` has one more than ``bounds_s``: what took longer."""
        return {
            "bounds_s": list(LATENCY_BOUNDS_S),
            "buckets": list(self.buckets),
            "sum_s": self.sum_s,
        }


@dataclass(slots=True)
class Counters:
    """Of one sandbox, or summed. ``queries`` is the sum of the seven kinds that follow it."""

    queries: int = 0  # messages that arrived, well-formed or not
    answered: int = 0  # ours, with addresses or names
    nodata: int = 0  # ours, without that type
    forwarded: int = 0
    refused: int = 0  # REFUSED, NOTIMP, BADVERS
    malformed: int = 0  # FORMERR
    unavailable: int = 0  # SERVFAIL of our own: nobody may be asked, or too many are under way
    dropped: int = 0  # no answer: responses, fragments of a header, no room to send
    truncated: int = 0  # answers that did not fit the client's UDP size
    tcp_connections: int = 0  # accepted
    tcp_closed_by_us: int = 0  # too slow, too many, too long, not DNS
    local: Latency = field(default_factory=Latency)  # from reading to sending
    upstream: Latency = field(default_factory=Latency)  # from forwarding to the reply

    def add(self, other: Counters) -> None:
        """Another's, too."""
        for item in fields(self):
            ours, theirs = getattr(self, item.name), getattr(other, item.name)
            if isinstance(ours, Latency):
                ours.merge(theirs)
            else:
                setattr(self, item.name, ours + theirs)

    def as_document(self) -> dict[str, int]:
        """The numbers without the histograms, by name."""
        return {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if not isinstance(getattr(self, item.name), Latency)
        }


@dataclass(slots=True)
class ForwardingCounters:
    """What became of the questions that were forwarded, in the whole process."""

    asked_upstream: int = 0  # questions that went out
    joined: int = 0  # clients that had the answer to another's question
    from_cache: int = 0
    stale: int = 0  # answered out of date, for want of a server
    failed: int = 0  # SERVFAIL: no server answered
    refused: int = 0  # SERVFAIL: too many under way
    second_server: int = 0  # a further server asked while another was awaited, or after it failed
    sent_again: int = 0
    over_tcp: int = 0
    ignored: int = 0  # datagrams that were no answer to what was asked
    probes: int = 0  # copies of queries to servers that were silent

    def as_document(self) -> dict[str, int]:
        """The numbers by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}
