"""View and query to answer; every answer is read by dnslib.

Each question is asked three times: the strict way, the quick way and what is kept must agree.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from dnslib import EDNS0, QTYPE, DNSRecord, EDNSOption
from hypothesis import given
from hypothesis import strategies as st
from peers.mutations import Mutations
from unit.dns.questions import ID, answers, opt, query
from unit.dns.test_names import endpoint

from cnm.discovery import NamedEndpoint, NameLink, NetworkNames
from cnm.dns import message, resolver
from cnm.dns.names import TTL_S, Table, View
from cnm.dns.resolver import Allowance, Ask, Resolver
from cnm.dns.statistics import Counters
from cnm.types import EndpointID, NetworkID

FRONT, BACK = NetworkID("f" * 64), NetworkID("b" * 64)


def table(network_id: NetworkID, name: str, *endpoints: NamedEndpoint) -> Table:
    return Table.build(NetworkNames(network_id, name, endpoints))


front = table(
    FRONT,
    "front",
    endpoint(1, "web www", "10.0.0.2"),
    endpoint(2, "db", "10.0.0.3 fd00::3"),
    endpoint(3, "six", "fd00::4"),
    endpoint(4, "void", ""),
)
back = table(BACK, "back", endpoint(5, "web", "10.1.0.2 fd01::2"), endpoint(6, "far", "10.1.0.3"))


class Asked:
    """A resolver as the listener uses it."""

    def __init__(self, view: View) -> None:
        self.counters = Counters()
        self.allowance = Allowance()
        self.resolver = Resolver(view, self.counters, self.allowance)

    def see(self, view: View) -> None:
        self.resolver = self.resolver.succeeded(view)

    def once(self, question: bytes, *, tcp: bool = False) -> bytes | Ask | None:
        kept = self.resolver.kept.get(question[2:])
        if kept is None:
            found = self.resolver.answer(question[2:], tcp=tcp)
        else:
            found = kept if isinstance(kept, bytes) else next(kept)
        return question[:2] + found if isinstance(found, bytes) else found

    def __call__(self, question: bytes, *, tcp: bool = False) -> DNSRecord:
        """The strict answer; the others are compared with it."""
        replies = [self.once(question, tcp=tcp) for _ in range(3)]
        assert isinstance(replies[0], bytes)
        alike = {(len(reply), reply[:12]) for reply in replies if isinstance(reply, bytes)}
        assert (len(alike), [type(reply) for reply in replies]) == (1, [bytes] * 3)
        reply = DNSRecord.parse(replies[0])
        assert (reply.header.id, reply.header.qr, reply.header.ra) == (ID, 1, 1)
        return reply


def ask(question: bytes, *tables: Table, links: Sequence[NameLink] = ()) -> DNSRecord:
    return Asked(View(tables or (front,), tuple(links)))(question)


@pytest.mark.parametrize(
    ("name", "kind", "wanted"),
    [
        ("web", "A", ["10.0.0.2"]),
        ("www", "A", ["10.0.0.2"]),
        ("web.front", "A", ["10.0.0.2"]),
        ("WeB.FrOnT", "A", ["10.0.0.2"]),
        ("db", "AAAA", ["fd00::3"]),
        ("db", "ANY", ["10.0.0.3", "fd00::3"]),
        ("six", "AAAA", ["fd00::4"]),
        ("2.0.0.10.in-addr.arpa", "PTR", ["web.front."]),
        ("3.0.0.10.IN-ADDR.ARPA", "PTR", ["db.front."]),
        (ip_address("fd00::4").reverse_pointer, "PTR", ["six.front."]),
        ("2.0.0.10.in-addr.arpa", "ANY", ["web.front."]),
    ],
)
def test_answers(name: str, kind: str, wanted: list[str]) -> None:
    for edns in (None, opt(), opt(4096, do=True)):
        reply = ask(query(name, kind, edns=edns))
        assert answers(reply) == wanted
        assert {(record.ttl, record.rclass) for record in reply.rr} == {(TTL_S, 1)}
        assert {str(record.rname) for record in reply.rr} == {f"{name}."}
        assert (reply.header.rcode, reply.header.aa, reply.header.tc) == (0, 1, 0)
        assert str(reply.q.qname) == f"{name}."  # spelled as asked


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(
            ("web", kind)
            for kind in ("AAAA", "MX", "TXT", "SRV", "PTR", "HTTPS", "SOA", "NS", "DS")
        ),
        ("web", "257"),  # CAA; its lower byte is that of A
        ("web", "65280"),
        ("web.front", "AAAA"),
        ("six", "A"),
        ("void", "A"),
        ("void", "ANY"),
        ("2.0.0.10.in-addr.arpa", "A"),
    ],
)
def test_a_name_of_ours_is_never_denied(name: str, kind: str) -> None:
    """NXDOMAIN for one type makes musl give up the others (docker-alpine#399)."""
    for edns in (None, opt()):
        reply = ask(query(name, kind, edns=edns))
        assert (reply.header.rcode, reply.header.aa, reply.rr) == (0, 1, [])
        (soa,) = reply.auth  # else the answer may not be kept, RFC 2308
        assert (soa.rtype, str(soa.rname), soa.ttl) == (QTYPE.SOA, f"{name}.", TTL_S)
        assert soa.rdata.times[4] == TTL_S


@pytest.mark.parametrize(
    "name",
    [
        "web.example.com",
        "nobody",
        "far",
        "web.back",
        "front",
        "web.front.front",
        "9.0.0.10.in-addr.arpa",
        "2.0.0.10.in-addr.arpa.front",
        "",
    ],
)
@pytest.mark.parametrize("kind", ["A", "AAAA", "PTR", "MX", "ANY"])
def test_the_rest_is_for_others(name: str, kind: str) -> None:
    asked = Asked(View((front,)))
    for _ in range(3):
        assert asked.once(query(name, kind)) == Ask(512)
        assert asked.once(query(name, kind, edns=opt(1400))) == Ask(1400)
        assert asked.once(query(name, kind), tcp=True) == Ask(message.LARGEST)
    assert asked.counters.queries == asked.counters.forwarded == 0  # the listener's to count


def test_where_nobody_may_be_asked_the_answer_is_servfail() -> None:
    asked = Asked(View((front,), forward=False))
    reply = asked(query("web.example.com", edns=opt()))
    assert (reply.header.rcode, reply.header.aa, len(reply.ar)) == (2, 0, 1)
    assert answers(asked(query("web"))) == ["10.0.0.2"]
    assert (asked.counters.unavailable, asked.counters.answered) == (3, 2)


@pytest.mark.parametrize(
    ("tables", "name", "kind", "wanted"),
    [
        ((front, back), "web", "A", ["10.0.0.2"]),
        ((back, front), "web", "A", ["10.1.0.2"]),
        ((front, back), "web", "AAAA", ["fd01::2"]),  # the first network that has one
        ((front, back), "web.back", "A", ["10.1.0.2"]),
        ((front, back), "web.front", "AAAA", []),
        ((front, back), "far", "A", ["10.1.0.3"]),
        ((front, back), "3.0.1.10.in-addr.arpa", "PTR", ["far.back."]),
        ((front, back), "web", "MX", []),
        ((front, back), "web", "ANY", ["10.0.0.2"]),
    ],
)
def test_networks_are_asked_in_order(
    tables: tuple[Table, ...], name: str, kind: str, wanted: list[str]
) -> None:
    assert answers(ask(query(name, kind), *tables)) == wanted


def test_a_name_with_a_dot_goes_before_name_and_network() -> None:
    dotted = table(BACK, "back", endpoint(7, "web.front", "10.1.0.9"))
    assert answers(ask(query("web.front"), front, dotted)) == ["10.1.0.9"]
    assert answers(ask(query("web.front.back"), front, dotted)) == ["10.1.0.9"]


def test_a_link_is_a_name_of_its_own() -> None:
    links = [NameLink("Sql", FRONT, "DB"), NameLink("www", FRONT, "six")]
    for name, kind, wanted in (
        ("sql", "A", ["10.0.0.3"]),
        ("sql.front", "AAAA", ["fd00::3"]),
        ("www", "AAAA", ["fd00::4"]),
        ("www", "A", []),  # not the one that bears the name
        ("web", "A", ["10.0.0.2"]),
    ):
        assert answers(ask(query(name, kind), front, back, links=links)) == wanted


@pytest.mark.parametrize("network_id", [FRONT, BACK])
def test_a_link_to_nobody_hides_nobody_else(network_id: NetworkID) -> None:
    asked = Asked(View((front,), (NameLink("web", network_id, "gone"),)))
    if network_id == FRONT:
        assert asked.once(query("web")) == Ask(512)
    else:  # a network that the sandbox has left
        assert answers(asked(query("web"))) == ["10.0.0.2"]


@pytest.mark.parametrize(
    ("question", "code"),
    [
        pytest.param(query("web", klass=3), message.REFUSED, id="class CHAOS"),
        pytest.param(query("version.bind", "TXT", klass=3), message.REFUSED, id="version.bind"),
        pytest.param(query("web", klass=255), message.REFUSED, id="class ANY"),
        pytest.param(query("web", "AXFR"), message.REFUSED, id="AXFR"),
        pytest.param(query("example.com", "IXFR"), message.REFUSED, id="IXFR of others"),
    ],
)
def test_refused(question: bytes, code: int) -> None:
    asked = Asked(View((front,)))
    reply = asked(question)
    assert (reply.header.rcode, reply.header.aa, reply.rr) == (code, 0, [])
    assert asked.counters.refused == 3


@pytest.mark.parametrize("opcode", range(1, 16))
def test_other_operations_are_not_implemented(opcode: int) -> None:
    question = bytearray(query("web"))
    question[2] |= opcode << 3
    reply = ask(bytes(question))
    assert (reply.header.rcode, reply.header.opcode) == (message.NOTIMP, opcode)
    assert reply.questions == []


def test_an_unknown_version_of_edns() -> None:
    """RFC 6891 6.1.3; the upper bits of the code lie in the OPT."""
    for version in (1, 255):
        reply = ask(query("web", edns=opt(version=version)))
        (found,) = reply.ar
        assert (reply.header.rcode, found.edns_rcode, found.edns_ver) == (0, 1, 0)
        assert (reply.rr, str(reply.q.qname)) == ([], "web.")


def test_responses_and_fragments_are_dropped() -> None:
    asked = Asked(View((front,)))
    response = bytearray(query("web"))
    response[2] |= 0x80
    for wrong in (bytes(response), response[:11], b"", b"\0\0"):
        assert asked.once(bytes(wrong)) is None
    assert asked.counters.dropped == 4


def test_edns_is_answered_by_edns() -> None:
    for do in (False, True):
        cookie = EDNS0(opts=[EDNSOption(10, b"12345678")], flags="do" if do else "", udp_len=4096)
        (found,) = ask(query("web", edns=cookie)).ar
        assert (found.edns_do, found.edns_ver, found.edns_len) == (do, 0, message.OUR_SIZE)
        assert found.rdata == []  # no cookie: RFC 7873 5.2.1 lets a server not know them
    assert ask(query("web")).ar == []


@pytest.mark.parametrize(
    ("rd", "cd", "ad"), [(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1)]
)
def test_flags(rd: int, cd: int, ad: int) -> None:
    for name, kind in (("web", "A"), ("web", "AAAA")):
        header = ask(query(name, kind, rd=rd, cd=cd, ad=ad)).header
        assert (header.rd, header.cd, header.ad) == (rd, cd, 0)  # we verify nothing


def test_a_zero_byte_in_a_label_fools_nobody() -> None:
    """The quick way looks for the first zero; the name may be longer than that."""
    asked = Asked(View((front,)))
    asked(query("web"))
    head = query("web")[2:12]
    tail = b"\x00\x01\x00\x01"
    for name in (b"\x05web\0\0\0", b"\x03web\x05\0\1\0\1\0\0", b"\x04web\0" + tail + b"\0"):
        found = asked.resolver.answer(head + name + tail)
        assert not isinstance(found, bytes) or found[1] & 15 == message.FORMERR


def test_a_known_name_that_is_cut_behind_it() -> None:
    """A batch of queries was lost with it."""
    asked = Asked(View((front,)))
    question = query("web")
    asked(question)
    for size in range(12, len(question)):
        reply = asked.once(question[:size])
        assert isinstance(reply, bytes)
        assert DNSRecord.parse(reply).header.rcode == message.FORMERR


def test_any_mutation_is_answered_dropped_or_for_others() -> None:
    """And never changes what a proper question is answered."""
    real = [
        query(name, kind) for name in ("web", "web.front", "far.example") for kind in ("A", "MX")
    ]
    real += [query("db", "AAAA", edns=edns) for edns in (opt(), opt(4096, do=True))]
    real += [query("db", edns=EDNS0(opts=[EDNSOption(10, b"12345678")], udp_len=1232))]
    mutations = Mutations(20240229, real)
    asked = Asked(View((front, back)))
    for number in range(20_000):
        wrong = mutations.next()
        reply = asked.once(wrong, tcp=bool(number % 2))
        if isinstance(reply, bytes):
            assert reply[:2] == wrong[:2]
            assert reply[2] & 0x80
            assert len(reply) <= 512 or wrong[10:12] != bytes(2)
        if number % 1000 == 0:
            assert answers(asked(query("web"))) == ["10.0.0.2"]


crowd = [endpoint(n, f"c{n} all few{n % 8}", f"10.2.{n >> 8}.{n & 255}") for n in range(300)]


@pytest.mark.parametrize(
    ("edns", "holders"),
    [(None, 30), (opt(1232), 75), (opt(4096), 254), (opt(65535), 300)],
)
def test_an_answer_that_does_not_fit_is_cut(edns: EDNS0 | None, holders: int) -> None:
    asked = Asked(View((table(FRONT, "front", *crowd),)))
    reply = asked(query("all", edns=edns))
    assert (len(reply.rr), reply.header.tc) == (holders, holders < 300)
    assert len(reply.pack()) <= max(512, 0 if edns is None else edns.edns_len)
    assert asked.counters.truncated == (3 if holders < 300 else 0)
    whole = asked(query("all", edns=edns), tcp=True)
    assert (len(whole.rr), whole.header.tc) == (300, 0)


@pytest.mark.parametrize("holders", [2, 3, 8, 9, 30])
def test_holders_take_turns(holders: int) -> None:
    endpoints = [endpoint(n, f"c{n} all", f"10.2.0.{n} fd00::{n:x}") for n in range(holders)]
    asked = Asked(View((table(FRONT, "front", *endpoints),)))
    for kind in ("A", "AAAA"):
        first: Counter[str] = Counter()
        for _ in range(6 * holders):
            reply = asked.once(query("all", kind, edns=opt()))
            assert isinstance(reply, bytes)
            found = answers(DNSRecord.parse(reply))
            assert len(set(found)) == holders
            first[found[0]] += 1
        assert set(first.values()) <= {5, 6, 7}
        assert len(first) == holders


def test_a_changed_table_is_seen_at_once_and_the_rest_is_kept() -> None:
    """What is kept survives a publish, except for the names of it."""
    asked = Asked(View((front,)))
    questions = {
        (name, kind): query(name, kind, edns=edns)
        for name in ("web", "web.front", "db", "six", "2.0.0.10.in-addr.arpa")
        for kind in ("A", "AAAA", "PTR")
        for edns in (None, opt(), EDNS0(opts=[EDNSOption(10, b"12345678")]))
    }
    for question in questions.values():
        asked(question)
    assert len(asked.resolver.kept) == len(questions)
    changed = front.with_endpoint(endpoint(1, "web", "10.0.0.9"))
    asked.see(View((changed,)))
    assert len(asked.resolver.kept) == len(questions) - 9
    assert answers(asked(query("web"))) == ["10.0.0.9"]
    assert answers(asked(query("web.front"))) == ["10.0.0.9"]
    assert asked.once(query("2.0.0.10.in-addr.arpa", "PTR")) == Ask(512)
    assert asked.once(query("www")) == Ask(512)
    asked.see(View((changed.without(EndpointID(f"{2:064x}")),)))
    assert asked.once(query("db")) == Ask(512)
    assert asked.allowance.left == Allowance().left - len(asked.resolver.kept)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "_KEPT", 50)
    monkeypatch.setattr(resolver, "_KEPT_IN_ALL", 70)
    allowance = Allowance()
    view = View((table(FRONT, "front", *crowd),))
    both = [Resolver(view, Counters(), allowance) for _ in range(2)]
    for number in range(300):
        for one in both:
            for _ in range(2):
                reply = one.answer(query(f"c{number}")[2:])
                assert isinstance(reply, bytes)
            assert len(one.kept) <= 50
        assert sum(len(one.kept) for one in both) + allowance.left == 70
    for one in both:
        one.close()
    assert allowance.left == 70


def test_odd_clients_fill_nothing() -> None:
    """Random case, cookies, sizes and flags: answered right, and not remembered."""
    asked = Asked(View((front,)))
    chosen = random.Random(1)
    for _ in range(2000):
        name = "".join(chosen.choice((c, c.upper())) for c in "www.front")
        cookie = EDNSOption(10, chosen.randbytes(8))
        edns = EDNS0(opts=[cookie], udp_len=chosen.randrange(65536), version=0)
        reply = asked.once(query(name, edns=edns, rd=chosen.randrange(2)))
        assert isinstance(reply, bytes)
        assert answers(DNSRecord.parse(reply)) == ["10.0.0.2"]
    assert len(asked.resolver.kept) <= 16 * 4
    assert len(asked.resolver._shapes) <= 256


names = st.sampled_from(["web", "db", "all", "web.front", "other", "2.0.0.10.in-addr.arpa"])
steps = st.lists(
    st.one_of(
        st.tuples(names, st.sampled_from(["A", "AAAA", "PTR"]), st.sampled_from([None, 1232])),
        st.builds(
            endpoint,
            st.integers(0, 3),
            st.sampled_from(["web", "db all", "web all", "all"]),
            st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.2 fd00::1"]),
        ),
        st.integers(0, 3),
    ),
    max_size=30,
)


@given(steps)
def test_nothing_kept_is_ever_stale(script: list[object]) -> None:
    """After any changes, an old resolver and a new one answer alike."""
    tables = [table(FRONT, "front"), table(BACK, "back", endpoint(9, "all", "10.1.0.9"))]
    asked = Asked(View(tuple(tables)))
    for step in script:
        if isinstance(step, tuple):
            name, kind, size = step
            question = query(name, kind, edns=opt(size) if size else None)
            asked.once(question)
            new = Asked(View(tuple(tables)))
            assert _content(asked.once(question)) == _content(new.once(question))
        else:
            assert isinstance(step, NamedEndpoint | int)
            tables[0] = (
                tables[0].with_endpoint(step)
                if isinstance(step, NamedEndpoint)
                else tables[0].without(EndpointID(f"{step:064x}"))
            )
            asked.see(View(tuple(tables)))


def _content(found: bytes | Ask | None) -> object:
    if not isinstance(found, bytes):
        return found
    reply = DNSRecord.parse(found)
    return sorted(answers(reply)), len(reply.auth), len(reply.ar), reply.header.rcode
