"""One sandbox's sockets on the loop: questions in, answers out, limits in between.

A wake serves one batch of datagrams, or one read of one TCP connection, and goes back to the
loop, so that a flood in one sandbox delays another by a batch and no more.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from cnm.dns import message
from cnm.dns.datagrams import BATCH, SLOT, Datagrams
from cnm.dns.names import View
from cnm.dns.place import Forwarding, QueryWatch, SandboxPlace
from cnm.dns.resolver import Allowance, Ask, Resolver
from cnm.dns.statistics import Counters
from cnm.dns.stream import Streams
from cnm.runtime.kernel.loop import READ, Loop

_ROOM: Final = SLOT - 2  # bytes of a body
# A batch of kept answers takes 0.3 ms. One of questions for others may take 10, and all sandboxes
# wait for it: the next ones are shorter then.
_TURN_S: Final = 0.001
_FEWEST: Final = 4


class Shared:
    """What all listeners of a loop have in common."""

    def __init__(self) -> None:
        self.allowance = Allowance()
        self._datagrams: dict[int, Datagrams] = {}

    def datagrams(self, family: int) -> Datagrams:
        """For sockets of that family."""
        if family not in self._datagrams:  # 200 KB; IPv6 is only asked by the host
            self._datagrams[family] = Datagrams(family)
        return self._datagrams[family]


class Listener:
    """Serves a sandbox until it is closed. It owns the two sockets, not the namespace.

    ``udp`` is bound, ``tcp`` bound and listening.
    """

    def __init__(
        self,
        loop: Loop,
        place: SandboxPlace,
        udp: socket.socket,
        tcp: socket.socket,
        view: View,
        forwarding: Forwarding,
        counters: Counters,
        shared: Shared,
    ) -> None:
        self.place = place
        self.counters = counters
        self._loop = loop
        self._udp = udp
        self._forwarding = forwarding
        self._datagrams = shared.datagrams(udp.family)
        self._resolver = Resolver(view, counters, shared.allowance)
        self._watch: QueryWatch | None = None
        self._most = BATCH
        self._closed = False
        udp.setblocking(False)
        loop.watch(udp.fileno(), READ, self._datagrams_wait)
        self._streams = Streams(loop, tcp, counters, self._answer_stream)

    def see(self, view: View) -> None:
        """Answer as of ``view`` from the next query on. Queries in flight are answered."""
        self._resolver = self._resolver.succeeded(view)

    def watch(self, log: QueryWatch | None) -> None:
        """Report every query to ``log``; None: nobody reads any more."""
        self._watch = log

    def leave_unread(self) -> None:
        """Read no more queries: another process will. What was read is answered."""
        self._loop.forget(self._udp.fileno())
        self._streams.accept_no_more()

    def close(self) -> None:
        """Stop and close both sockets; what is forwarded for it is dropped."""
        self._closed = True
        self._loop.forget(self._udp.fileno())
        self._udp.close()
        self._streams.close()
        self._resolver.close()
        self._forwarding.forget(self.place)

    def _datagrams_wait(self, _events: int) -> None:
        """The hot path, in one function: a call for each datagram costs a tenth of the rate."""
        began = time.perf_counter()
        batch = self._datagrams
        memory = batch.memory
        sizes = batch.receive(self._udp.fileno(), self._most)
        resolver = self._resolver
        kept = resolver.kept.get if self._watch is None else _nothing
        replies: list[int] = []
        failure: Exception | None = None
        answered = nodata = 0
        at = 2
        for size in sizes:
            body = memory[at : at + size - 2]
            found = kept(body)
            if found is None:
                try:
                    answer = resolver.answer(body)
                    if isinstance(answer, bytes) and len(answer) <= _ROOM and self._watch is None:
                        reply = answer
                    else:
                        query = memory[at - 2 : at + size - 2]
                        reply = self._unusual(query, answer, batch.client(len(replies)), began)
                except Exception as error:  # the rest of the batch has no part in it
                    failure, reply = error, b""
            else:
                reply = found if isinstance(found, bytes) else next(found)  # holders take turns
                if reply[5]:  # the number of answers; of what is kept, below 256
                    answered += 1
                else:
                    nodata += 1
            end = len(reply)
            memory[at : at + end] = reply
            replies.append(end + 2 if end else 0)
            at += SLOT
        self._finish(replies, answered, nodata, began)
        if failure is not None:
            raise failure

    def _finish(self, replies: list[int], answered: int, nodata: int, began: float) -> None:
        """Send a batch, count it, and see to it that the next one does not take too long."""
        counters = self.counters
        counters.queries += len(replies)
        counters.answered += answered
        counters.nodata += nodata
        local = len(replies) - replies.count(0)
        counters.dropped += local - self._datagrams.reply(self._udp.fileno(), replies)
        took = time.perf_counter() - began
        counters.local.add(took, local)
        self._most = max(self._most // 2, _FEWEST) if took > _TURN_S else min(self._most * 2, BATCH)

    def _unusual(
        self, query: bytes, answer: bytes | Ask | None, client: tuple[str | int, ...], began: float
    ) -> bytes:
        """The body to be written into the slot; empty: none, or it goes another way."""
        if isinstance(answer, Ask):
            self._forward("udp", query, answer.limit, partial(self._send_datagram, client))
            return b""
        self._report("udp", query, answer, began)
        if answer is not None and len(answer) > _ROOM:
            self._send_datagram(client, query[:2] + answer)
            return b""
        return answer or b""

    def _send_datagram(self, client: tuple[str | int, ...], reply: bytes) -> None:
        try:
            self._udp.sendto(reply, client)
        except OSError:  # no room, or the client is filtered: lost like any datagram
            self.counters.dropped += 1

    def _answer_stream(self, query: bytes, send: Callable[[bytes], None]) -> None:
        began = time.perf_counter()
        self.counters.queries += 1
        answer = self._resolver.answer(query[2:], tcp=True)
        if isinstance(answer, Ask):
            self._forward("tcp", query, answer.limit, send)
            return
        self._report("tcp", query, answer, began)
        send(b"" if answer is None else query[:2] + answer)
        self.counters.local.add(time.perf_counter() - began)

    def _forward(
        self, transport: str, query: bytes, limit: int, send: Callable[[bytes], None]
    ) -> None:
        """How many may be under way is the forwarder's to say (:mod:`cnm.dns.admission`)."""
        began = time.perf_counter()

        def replied(reply: bytes) -> None:
            self.counters.upstream.add(time.perf_counter() - began)
            if not self._closed:
                fitting = message.fit(reply, limit)
                self.counters.truncated += fitting is not reply
                self._report(transport, query, fitting[2:], began)
                send(fitting)

        self.counters.forwarded += 1
        self._forwarding.forward(self.place, self._resolver.view.servers, query, replied)

    def _report(self, transport: str, query: bytes, answer: bytes | None, began: float) -> None:
        if self._watch is not None:
            reply = None if answer is None else query[:2] + answer
            self._watch.saw(self.place, transport, query, reply, time.perf_counter() - began)


def _nothing(_body: bytes) -> None:
    """While the query log is read, every query goes the long way, where it is reported."""
