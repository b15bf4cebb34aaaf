"""Questions to other servers: who is asked in which order, and whose answer counts."""

from __future__ import annotations

import itertools

import dnslib
import pytest
from kernel.dns.conftest import ClientFactory, ServerFactory
from kernel.dns.upstreams import (
    ADDRESS,
    addresses,
    answer,
    extended_error,
    failing,
    question,
    rcode,
    silent,
    well,
)
from kernel.namespaces import poll

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("leaves_nothing")]

OTHER = "198.51.100.8"
NOBODY = "127.0.0.9"  # nothing listens: the kernel says so by ICMP
EDNS = dnslib.EDNS0(udp_len=4096)


def test_the_first_server_is_asked_alone(serve: ServerFactory, client: ClientFactory) -> None:
    first, second = serve("127.0.0.2", well()), serve("127.0.0.3", well(OTHER))
    assert addresses(client(first, second).ask()) == [ADDRESS]
    (seen,) = first.seen
    assert seen.transport == "udp"
    assert second.seen == []


def test_while_one_is_silent_the_next_is_asked(serve: ServerFactory, client: ClientFactory) -> None:
    dead, second = serve("127.0.0.2", silent), serve("127.0.0.3", well())
    third = serve("127.0.0.4", well())
    asking = client(dead, second, third)
    assert addresses(asking.ask()) == [ADDRESS]
    assert len(dead.seen) == 1
    assert len(second.seen) == 1
    assert asking.counters.sent_again == 0  # it took less than a second


def test_who_was_silent_three_times_goes_to_the_back(
    serve: ServerFactory, client: ClientFactory
) -> None:
    dead, second = serve("127.0.0.2", silent), serve("127.0.0.3", well())
    asking = client(dead, second)
    for number in range(3):
        asking.ask(f"{number}.example.com")
    assert len(dead.seen) >= 3
    before = len(dead.seen) - asking.counters.probes
    for number in range(10):
        assert addresses(asking.ask(f"again{number}.example.com")) == [ADDRESS]
    # none of them, but for a machine so busy that the second server took 200 ms
    assert len(dead.seen) - asking.counters.probes < before + 5


def test_one_that_is_asked_first_may_still_answer_after_the_second_was_asked(
    serve: ServerFactory, client: ClientFactory
) -> None:
    first, second = serve("127.0.0.2", silent), serve("127.0.0.3", silent)
    asking = client(first, second)
    replies = asking.send(question("www.example.com"))
    asking.until(lambda: second.seen, "the second server to be asked")
    late = first.seen[0]
    first.tell(late, bytes(answer(late).pack()))
    asking.until(lambda: replies, "the late answer")
    assert addresses(dnslib.DNSRecord.parse(replies[0])) == [ADDRESS]


def test_one_that_cannot_be_reached_costs_nothing(
    serve: ServerFactory, client: ClientFactory
) -> None:
    second = serve("127.0.0.3", well())
    asking = client(NOBODY, second)
    assert addresses(asking.ask("a.example.com")) == [ADDRESS]
    assert asking.counters.second_server == 1
    assert addresses(asking.ask("b.example.com")) == [ADDRESS]  # it stands at the back now
    assert asking.counters.second_server == 1


def test_one_that_comes_back_is_the_first_again(
    serve: ServerFactory, client: ClientFactory
) -> None:
    second = serve("127.0.0.3", well(OTHER))
    asking = client(NOBODY, second)
    names = (f"{number}.example.com" for number in itertools.count())
    assert addresses(asking.ask(next(names))) == [OTHER]
    first = serve(NOBODY, well())
    asking.until(lambda: addresses(asking.ask(next(names))) == [ADDRESS], "the first server")
    assert asking.counters.probes == 1
    count = len(first.seen)
    assert addresses(asking.ask(next(names))) == [ADDRESS]
    assert len(first.seen) == count + 1


def test_an_address_family_that_the_sandbox_has_no_route_for_costs_nothing(
    serve: ServerFactory, client: ClientFactory
) -> None:
    second = serve("127.0.0.3", well())
    asking = client("2001:db8::53", second)
    assert addresses(asking.ask()) == [ADDRESS]


def test_a_server_on_ipv6(serve: ServerFactory, client: ClientFactory) -> None:
    assert addresses(client(serve("::1", well())).ask()) == [ADDRESS]


@pytest.mark.parametrize("word", ["SERVFAIL", "REFUSED", "NOTIMP"])
def test_a_server_that_cannot_help_is_followed_by_the_next(
    word: str, serve: ServerFactory, client: ClientFactory
) -> None:
    first, second = serve("127.0.0.2", failing(word)), serve("127.0.0.3", well())
    asking = client(first, second)
    assert addresses(asking.ask()) == [ADDRESS]
    assert (len(first.seen), len(second.seen)) == (1, 1)


@pytest.mark.parametrize("word", ["NXDOMAIN", "NOERROR", "FORMERR"])
def test_what_a_server_knows_is_final(
    word: str, serve: ServerFactory, client: ClientFactory
) -> None:
    first, second = serve("127.0.0.2", failing(word, soa=True)), serve("127.0.0.3", well())
    reply = client(first, second).ask()
    assert (rcode(reply), addresses(reply)) == (word, [])
    assert second.seen == []


def test_a_refusal_of_a_header_only_is_understood(
    serve: ServerFactory, client: ClientFactory
) -> None:
    bare = serve("127.0.0.2", lambda seen: [seen.message[:2] + bytes.fromhex("8005" + "0" * 16)])
    asking = client(bare, serve("127.0.0.3", well()))
    assert addresses(asking.ask("a.example.com")) == [ADDRESS]
    alone = client(bare)
    assert rcode(alone.ask("b.example.com")) == "REFUSED"


def test_when_all_fail_the_client_has_what_a_server_said(
    serve: ServerFactory, client: ClientFactory
) -> None:
    servers = serve("127.0.0.2", failing("REFUSED")), serve("127.0.0.3", failing("SERVFAIL"))
    assert rcode(client(NOBODY, *servers).ask()) == "REFUSED"


def test_when_none_can_be_reached_the_reason_is_told(client: ClientFactory) -> None:
    reply = client(NOBODY, "127.0.0.10").ask(edns=EDNS)
    assert rcode(reply) == "SERVFAIL"
    assert extended_error(reply) == (
        22,
        "127.0.0.9: connection refused; 127.0.0.10: connection refused",
    )


def test_when_all_are_silent_it_ends(serve: ServerFactory, client: ClientFactory) -> None:
    servers = serve("127.0.0.2", silent), serve("127.0.0.3", silent)
    reply = client(*servers).ask(edns=EDNS)
    assert rcode(reply) == "SERVFAIL"
    assert extended_error(reply) == (22, "127.0.0.2: no answer; 127.0.0.3: no answer")
    for server in servers:
        poll(lambda server=server: len(server.seen) == 3, "two repetitions")  # type: ignore[misc]
        assert len({seen.source for seen in server.seen}) == 1


def test_a_lost_packet_is_sent_again(serve: ServerFactory, client: ClientFactory) -> None:
    server = serve("127.0.0.2", silent)
    server.behave = lambda seen: well()(seen) if len(server.seen) > 1 else []
    assert addresses(client(server).ask()) == [ADDRESS]


def test_more_than_three_servers_are_not_asked(serve: ServerFactory, client: ClientFactory) -> None:
    fourth = serve("127.0.0.2", well())
    asking = client(NOBODY, "127.0.0.10", "127.0.0.12", fourth)
    assert rcode(asking.ask()) == "SERVFAIL"
    assert fourth.seen == []


def test_we_do_not_ask_ourselves(serve: ServerFactory, client: ClientFactory) -> None:
    ourselves, second = serve("127.0.0.11", well(OTHER)), serve("127.0.0.3", well())
    assert addresses(client(ourselves, second).ask("a.example.com")) == [ADDRESS]
    assert rcode(client(ourselves).ask("b.example.com")) == "SERVFAIL"
    assert ourselves.seen == []
