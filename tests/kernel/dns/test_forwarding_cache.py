"""Answers that are kept, told stale when nobody answers, and servers that come back."""

from __future__ import annotations

import contextlib
import time

import dnslib
import pytest
from kernel.dns.conftest import ClientFactory, ServerFactory
from kernel.dns.upstreams import (
    ADDRESS,
    Client,
    Server,
    addresses,
    extended_error,
    failing,
    question,
    rcode,
    silent,
    well,
)
from kernel.namespaces import Namespace, poll

from cnm.dns import asked
from cnm.dns.attempt import Means
from cnm.dns.place import SandboxPlace
from cnm.dns.probes import Probes
from cnm.dns.upstream import Route, Upstream
from cnm.runtime.kernel.visit import Home

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("leaves_nothing")]

NEW = "198.51.100.8"
EDNS = dnslib.EDNS0()


def run_out(asking: Client) -> None:
    """Let a second pass, for a TTL of one to run out."""
    end = time.monotonic() + 1.05
    asking.until(lambda: time.monotonic() > end, "a second")


def test_an_answer_is_kept(serve: ServerFactory, client: ClientFactory) -> None:
    server = serve("127.0.0.2", well())
    asking = client(server)
    assert [addresses(asking.ask()) for _ in range(3)] == [[ADDRESS]] * 3
    assert len(server.seen) == 1
    assert asking.counters.from_cache == 2
    asking.ask(kind="AAAA")
    assert len(server.seen) == 2


def test_a_negative_answer_is_kept_if_it_says_for_how_long(
    serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", failing("NXDOMAIN", soa=True))
    asking = client(server)
    assert [rcode(asking.ask()) for _ in range(2)] == ["NXDOMAIN"] * 2
    assert len(server.seen) == 1
    server.behave = failing("NXDOMAIN")
    assert [rcode(asking.ask("other.example")) for _ in range(2)] == ["NXDOMAIN"] * 2
    assert len(server.seen) == 3


def test_what_has_run_out_is_asked_again(serve: ServerFactory, client: ClientFactory) -> None:
    server = serve("127.0.0.2", well(ttl=1))
    asking = client(server)
    asking.ask()
    run_out(asking)
    server.behave = well(NEW)
    assert addresses(asking.ask()) == [NEW]


def test_when_no_server_is_there_what_has_run_out_is_told(
    box: Namespace, client: ClientFactory
) -> None:
    with Server(box, "127.0.0.2", well(ttl=1)) as server:
        asking = client(server)
        asking.ask()
    run_out(asking)
    for _ in range(2):
        reply = asking.ask(edns=EDNS)
        assert addresses(reply) == [ADDRESS]
        assert reply.rr[0].ttl == 30
        assert extended_error(reply) == (3, "")
    assert asking.counters.stale == 2
    assert rcode(asking.ask("other.example")) == "SERVFAIL"
    with Server(box, "127.0.0.2", well(NEW)):
        asking.until(lambda: addresses(asking.ask()) == [NEW], "the server to be asked again")


def test_while_all_are_silent_what_has_run_out_is_told_soon_and_a_late_answer_counts(
    serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", well(ttl=1))
    asking = client(server)
    asking.ask()
    run_out(asking)
    server.behave = silent
    assert addresses(asking.ask()) == [ADDRESS]
    late = server.seen[1]
    for answer in well(NEW)(late):
        assert isinstance(answer, bytes)
        server.tell(late, answer)
    asking.until(lambda: addresses(asking.ask()) == [NEW], "the late answer to be known")
    assert asking.counters.asked_upstream == 2


def test_a_dead_list_of_servers_is_not_waited_for_twice(
    serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", well(ttl=1))
    asking = client(server)
    asking.ask("a.example.com")
    asking.ask("b.example.com")
    run_out(asking)
    server.behave = silent
    assert rcode(asking.ask("unknown.example.com")) == "SERVFAIL"
    (reply,) = asking.send(question("a.example.com"))  # at once: nothing was waited for
    assert addresses(dnslib.DNSRecord.parse(reply)) == [ADDRESS]
    asking.until(lambda: b"\x01a\x07" in server.seen[-1].message, "it to be asked all the same")
    server.behave = well(NEW)
    (reply,) = asking.send(question("b.example.com"))
    assert addresses(dnslib.DNSRecord.parse(reply)) == [ADDRESS]
    asking.until(lambda: addresses(asking.ask("b.example.com")) == [NEW], "the new answer")


def test_a_failure_is_remembered_for_a_moment(serve: ServerFactory, client: ClientFactory) -> None:
    server = serve("127.0.0.2", failing("SERVFAIL"))
    asking = client(server)
    assert rcode(asking.ask()) == "SERVFAIL"
    assert rcode(asking.ask()) == "SERVFAIL"
    assert len(server.seen) == 1
    server.behave = well()
    asking.until(lambda: addresses(asking.ask()) == [ADDRESS], "it to be asked again", 5)


def test_a_silent_server_is_probed_with_what_others_are_asked(
    place: SandboxPlace, serve: ServerFactory, client: ClientFactory
) -> None:
    sick, healthy = serve("127.0.0.2", silent), serve("127.0.0.3", silent)
    asking = client()
    upstreams = [Upstream(each.address, 53, from_host=False) for each in (sick, healthy)]
    route = Route(place, upstreams)
    query = asked.read(question("www.example.com"))
    with contextlib.closing(Home()) as home:
        means = Means(asking.loop, home, asking.counters)
        with contextlib.closing(Probes(means, 5)) as probes:
            probes.send(route, place.netns_fd, query)
            upstreams[0].unreachable(time.monotonic() - 3600)
            assert route.order() == upstreams[::-1]
            for _ in range(3):  # only one of these is due
                probes.send(route, place.netns_fd, query)
            poll(lambda: sick.seen, "the probe")
            for answer in well()(sick.seen[0]):
                assert isinstance(answer, bytes)
                sick.tell(sick.seen[0], answer)
            asking.until(lambda: not upstreams[0].sick, "its answer")
            assert route.order() == upstreams
    assert (len(sick.seen), len(healthy.seen), asking.counters.probes) == (1, 0, 1)
